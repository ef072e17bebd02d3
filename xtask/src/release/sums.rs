//! The list of all files with their SHA-256, as `sha256sum --check` reads it.
use std::collections::BTreeMap;

use anyhow::{Result, bail};

use super::Files;
use crate::image::sha256;

/// One line for each file, sorted by name.
pub(super) fn list(files: &Files) -> String {
    files.iter().map(|(name, bytes)| format!("{}  {name}\n", sha256(bytes))).collect()
}

/// Compares what was made with the list of another build. The other may have more files, such as those of
/// another architecture.
pub(super) fn compare(other: &str, made: &str) -> Result<()> {
    let other = by_name(other);
    let differ: Vec<_> = by_name(made)
        .into_iter()
        .filter(|(name, hash)| other.get(name) != Some(hash))
        .map(|(name, _)| name)
        .collect();
    if differ.is_empty() {
        println!("all files are those of the list");
        return Ok(());
    }
    bail!(
        "not as in the list: {}. Compare the commit, `rustc --version`, `cc --version`, glibc \
         (`getconf GNU_LIBC_VERSION`) and SOURCE_DATE_EPOCH of both builds",
        differ.join(", ")
    )
}

fn by_name(list: &str) -> BTreeMap<&str, &str> {
    list.lines().filter_map(|line| line.split_once("  ")).map(|(hash, name)| (name, hash)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_that_of_sha256sum() {
        let files = Files::from([("b".to_owned(), b"abc".to_vec()), ("a".to_owned(), Vec::new())]);
        let expected = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855  a\n\
                        ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad  b\n";
        assert_eq!(list(&files), expected);
    }

    #[test]
    fn a_file_that_differs_or_is_not_in_the_list_is_named() {
        let other = "11  a\n22  b\n33  other-architecture\n";
        compare(other, "11  a\n22  b\n").unwrap();
        let error = compare(other, "11  a\n23  b\n44  c\n").unwrap_err().to_string();
        assert!(error.starts_with("not as in the list: b, c. "), "{error}");
    }
}
