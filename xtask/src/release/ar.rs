//! An archive of Unix's `ar`, which a Debian package is: members with short names, all of them root's.
use anyhow::{Context, Result, ensure};

/// What such a file begins with.
const MAGIC: &[u8] = b"!<arch>\n";
/// The length of a member's name in its header.
const NAME: usize = 16;

/// The archive of these members in their order, dated `created` (in seconds since 1970).
pub(super) fn write(members: &[(&str, &[u8])], created: u64) -> Result<Vec<u8>> {
    let mut archive = MAGIC.to_vec();
    for (name, bytes) in members {
        let fits = name.len() <= NAME && name.bytes().all(|byte| byte.is_ascii_graphic());
        ensure!(fits, "{name:?} cannot be the name of a member of an ar archive");
        u64::try_from(bytes.len())
            .ok()
            .filter(|bytes| *bytes < 10_u64.pow(10))
            .with_context(|| format!("{name} is too large for an ar archive"))?;
        let header =
            format!("{name:<16}{created:<12}{:<6}{:<6}{:<8}{:<10}`\n", 0, 0, "100644", bytes.len());
        archive.extend_from_slice(header.as_bytes());
        archive.extend_from_slice(bytes);
        // Members begin at even places.
        if bytes.len() % 2 == 1 {
            archive.push(b'\n');
        }
    }
    Ok(archive)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_have_their_headers_and_begin_at_even_places() {
        let members: [(&str, &[u8]); 2] = [("debian-binary", b"2.0"), ("data.tar.gz", b"xy")];
        let expected = "!<arch>\n\
            debian-binary   1700000000  0     0     100644  3         `\n2.0\n\
            data.tar.gz     1700000000  0     0     100644  2         `\nxy";
        assert_eq!(String::from_utf8(write(&members, 1_700_000_000).unwrap()).unwrap(), expected);
    }

    #[test]
    fn a_name_that_does_not_fit_is_refused() {
        for name in ["seventeen-letters", "with blank", "ümlaut"] {
            assert!(write(&[(name, b"")], 0).is_err(), "{name}");
        }
    }
}
