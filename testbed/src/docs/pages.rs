//! The pages of the site: those that docs/SUMMARY.md lists, and the decision records. They keep their paths
//! in the checkout, so that a link means the same on the site and on the repository's host.
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Component, Path, PathBuf},
};

use anyhow::{Context, Result, bail, ensure};

use super::markdown::{self, Page};

const SUMMARY: &str = "docs/SUMMARY.md";
const RECORDS: &str = "docs/decisions";

/// The pages by their paths in the checkout, with the summary that lists them.
pub(super) struct Pages {
    pub(super) summary: String,
    pages: BTreeMap<PathBuf, Page>,
}

impl Pages {
    /// Reads all pages that the summary lists.
    pub(super) fn read(root: &Path) -> Result<Self> {
        let summary = summary(&text(root, Path::new(SUMMARY))?, &records(root)?);
        let listed = markdown::read(&summary).links;
        let mut pages = BTreeMap::new();
        for path in listed.into_iter().map(PathBuf::from) {
            let page = markdown::read(&text(root, &path)?);
            let twice = pages.insert(path.clone(), page).is_some();
            ensure!(!twice, "{SUMMARY} lists {} twice", path.display());
        }
        Ok(Self { summary, pages })
    }

    /// Everything that the site is made of: the pages, and the files that they link to. An error names
    /// every link that leads nowhere.
    pub(super) fn files(&self, root: &Path) -> Result<BTreeSet<PathBuf>> {
        let mut files: BTreeSet<_> = self.pages.keys().cloned().collect();
        let mut broken = Vec::new();
        for (path, page) in &self.pages {
            for link in page.links.iter().filter(|link| !is_elsewhere(link)) {
                match self.target(root, path, link) {
                    Ok(target) => _ = files.insert(target),
                    Err(why) => broken.push(format!("{}: {link}: {why}", path.display())),
                }
            }
        }
        ensure!(broken.is_empty(), "links that lead nowhere:\n{}", broken.join("\n"));
        Ok(files)
    }

    /// The file that a link leads to.
    fn target(&self, root: &Path, from: &Path, link: &str) -> Result<PathBuf> {
        let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
        let target = match file {
            "" => from.to_owned(),
            file => normal(&from.with_file_name(file))?,
        };
        if target.extension().is_some_and(|end| end == "md") {
            let page = self.pages.get(&target);
            let page = page.with_context(|| format!("no page of {SUMMARY}"))?;
            ensure!(anchor.is_empty() || page.anchors.contains(anchor), "no such heading");
        } else {
            ensure!(root.join(&target).is_file(), "no such file");
        }
        Ok(target)
    }
}

/// Whether the link leads to another site.
fn is_elsewhere(link: &str) -> bool {
    link.contains("://") || link.starts_with("mailto:")
}

/// The summary of the site, from the one in docs/: its links begin at the root, and the records follow
/// their list, as pairs of title and path.
fn summary(docs: &str, records: &[(String, String)]) -> String {
    let mut lines = Vec::new();
    for line in docs.lines() {
        let rebased = line.replace("](", "](docs/").replace("](docs/../", "](");
        let is_list = rebased.contains(&format!("]({RECORDS}/README.md)"));
        lines.push(rebased);
        if is_list {
            lines.extend(records.iter().map(|(title, path)| format!("  - [{title}]({path})")));
        }
    }
    lines.join("\n") + "\n"
}

/// The decision records, in their order.
fn records(root: &Path) -> Result<Vec<(String, String)>> {
    let mut records = Vec::new();
    for entry in fs::read_dir(root.join(RECORDS)).with_context(|| format!("no {RECORDS}"))? {
        let name = entry?.file_name();
        let name =
            name.to_str().with_context(|| format!("{RECORDS} has a name that is no text"))?;
        if name != "README.md" {
            let path = format!("{RECORDS}/{name}");
            let text = text(root, Path::new(&path))?;
            let title = text.lines().next().and_then(|line| line.strip_prefix("# "));
            let title = title.with_context(|| format!("{path} has no title"))?;
            records.push((title.to_owned(), path));
        }
    }
    records.sort_by(|(_, one), (_, other)| one.cmp(other));
    Ok(records)
}

/// The path without `..`, which must not lead out of the checkout.
fn normal(path: &Path) -> Result<PathBuf> {
    let mut normal = PathBuf::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => normal.push(name),
            Component::ParentDir if normal.pop() => {}
            Component::CurDir => {}
            _ => bail!("it leads out of the repository"),
        }
    }
    Ok(normal)
}

fn text(root: &Path, path: &Path) -> Result<String> {
    fs::read_to_string(root.join(path)).with_context(|| format!("cannot read {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
    }

    #[test]
    fn every_guide_is_in_the_summary_once() {
        let pages = Pages::read(&root()).unwrap().pages;
        for entry in fs::read_dir(root().join("docs")).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            if name.ends_with(".md") && name != "SUMMARY.md" {
                assert!(pages.contains_key(&Path::new("docs").join(&name)), "docs/{name}");
            }
        }
    }

    #[test]
    fn every_link_leads_somewhere() {
        let pages = Pages::read(&root()).unwrap();
        assert!(pages.pages.len() > 80);
        let files = pages.files(&root()).unwrap();
        assert!(files.contains(Path::new("manifests/30-agent.yaml")));
    }

    /// The files of a small repository.
    fn repository(readme: &str) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join(RECORDS)).unwrap();
        for (path, text) in [
            (
                "docs/SUMMARY.md",
                "[A](../README.md)\n- [B](b.md)\n- [Records](decisions/README.md)\n",
            ),
            ("docs/b.md", "# B\n## Later on\n"),
            ("docs/left-out.md", "# Left out\n"),
            ("docs/decisions/README.md", "# Records\n"),
            ("docs/decisions/0001-first.md", "# 0001: First\n"),
            ("README.md", readme),
            ("file.yaml", "a: 1\n"),
        ] {
            fs::write(folder.path().join(path), text).unwrap();
        }
        folder
    }

    #[test]
    fn records_follow_their_list_and_links_begin_at_the_root() {
        let folder =
            repository("[b](docs/b.md#later-on), [file](file.yaml), <https://a.example>\n");
        let pages = Pages::read(folder.path()).unwrap();
        let expected = "[A](README.md)\n- [B](docs/b.md)\n- [Records](docs/decisions/README.md)\n  \
                        - [0001: First](docs/decisions/0001-first.md)\n";
        assert_eq!(pages.summary, expected);
        let files = pages.files(folder.path()).unwrap();
        assert!(files.contains(Path::new("file.yaml")) && files.len() == 5, "{files:?}");
    }

    #[test]
    fn a_link_that_leads_nowhere_is_named() {
        for (link, why) in [
            ("docs/c.md", "no page"),
            ("docs/left-out.md", "no page"),
            ("docs/b.md#earlier", "no such heading"),
            ("#nothing", "no such heading"),
            ("docs", "no such file"),
            ("../elsewhere.yaml", "it leads out of the repository"),
        ] {
            let folder = repository(&format!("# A\n[x]({link})\n"));
            let error = Pages::read(folder.path()).unwrap().files(folder.path()).unwrap_err();
            let error = error.to_string();
            assert!(error.contains(&format!("README.md: {link}: {why}")), "{link}: {error}");
        }
    }
}
