//! The site that mdBook wrote: every link in it must lead to a file and to a place in that.
use std::{
    collections::{BTreeMap, HashSet},
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};

/// Checks all pages and returns their number. Files of these names may be missing.
pub(super) fn check(site: &Path, missing: &[&str]) -> Result<usize> {
    let mut pages = BTreeMap::new();
    read(site, &mut pages)?;
    let places: BTreeMap<&Path, HashSet<&str>> =
        pages.iter().map(|(path, html)| (path.as_path(), values(html, "id").collect())).collect();
    let mut broken = Vec::new();
    for (path, html) in &pages {
        for link in values(html, "href").chain(values(html, "src")) {
            let known = link.contains(':') || missing.iter().any(|name| link.ends_with(name));
            if !known && !leads_somewhere(path, link, &places) {
                broken.push(format!("{}: {link}", path.display()));
            }
        }
    }
    ensure!(broken.is_empty(), "links of the site that lead nowhere:\n{}", broken.join("\n"));
    Ok(pages.len())
}

fn leads_somewhere(from: &Path, link: &str, places: &BTreeMap<&Path, HashSet<&str>>) -> bool {
    let (file, place) = link.split_once('#').unwrap_or((link, ""));
    let target = match file {
        "" => Ok(from.to_owned()),
        file => from.with_file_name(file).canonicalize(),
    };
    let Ok(target) = target else { return false };
    place.is_empty() || places.get(target.as_path()).is_some_and(|ids| ids.contains(place))
}

/// The values of an attribute.
fn values<'a>(html: &'a str, attribute: &str) -> impl Iterator<Item = &'a str> {
    let parts = html.split(&format!(" {attribute}=\"")).skip(1).collect::<Vec<_>>();
    parts.into_iter().filter_map(|part| part.split('"').next())
}

/// Reads the pages below the folder, by their canonical paths.
fn read(folder: &Path, pages: &mut BTreeMap<PathBuf, String>) -> Result<()> {
    let unread = || format!("cannot read {}", folder.display());
    for entry in fs::read_dir(folder).with_context(unread)? {
        let path = entry.with_context(unread)?.path().canonicalize().with_context(unread)?;
        if path.is_dir() {
            read(&path, pages)?;
        } else if path.extension().is_some_and(|end| end == "html") {
            let html = fs::read_to_string(&path);
            let html = html.with_context(|| format!("cannot read {}", path.display()))?;
            pages.insert(path, html);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_to_a_missing_file_or_place_is_named() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("below")).unwrap();
        let page = |links: &str| {
            fs::write(folder.path().join("below/b.html"), "<h1 id=\"here\">B</h1>").unwrap();
            fs::write(folder.path().join("a.html"), links).unwrap();
            check(folder.path(), &["d.css"])
        };
        let fine = "<a href=\"below/b.html#here\">b</a> <a id=\"x\" href=\"#x\">x</a> <a href=\"https://a.example/\">a</a> <link href=\"../d.css\">";
        assert_eq!(page(fine).unwrap(), 2);
        for link in ["c.html", "below/b.html#there", "#y"] {
            let error = page(&format!("<img src=\"{link}\">")).unwrap_err().to_string();
            assert!(error.ends_with(&format!("a.html: {link}")), "{error}");
        }
    }
}
