//! `cargo xtask docs`: the documentation as a site, by mdBook.
mod markdown;
pub(crate) mod mdbook;
mod pages;
mod site;

use std::{fs, path::Path, time::Instant};

use anyhow::{Context, Result, ensure};
use xtask::{process, workspace::Workspace};

use self::pages::Pages;

/// Make the documentation a site, and check its links
///
/// Writes target/docs/site from docs/SUMMARY.md, the pages that it lists and the files that they link to.
/// mdBook is the one on PATH, else Debian 13's, unpacked below target/docs (6 MB the first time), whose sites
/// lack fonts and a script: good for a check, not for publication. What mdBook warns of is a failure, and so
/// is a link that leads nowhere.
#[derive(clap::Args, Default)]
#[command(verbatim_doc_comment)]
pub(crate) struct Args {}

pub(crate) fn run(workspace: &Workspace, _: &Args) -> Result<()> {
    let start = Instant::now();
    let home = workspace.target.join("docs");
    let pages = Pages::read(&workspace.root)?;
    let files = pages.files(&workspace.root)?;
    for made in ["src", "site"] {
        empty(&home.join(made))?;
    }
    for file in &files {
        copy(&workspace.root.join(file), &home.join("src").join(file))?;
    }
    let summary = home.join("src/SUMMARY.md");
    fs::write(&summary, &pages.summary)
        .with_context(|| format!("cannot write {}", summary.display()))?;
    copy(&workspace.root.join("docs/book.toml"), &home.join("book.toml"))?;
    process::announce("build the site");
    let mut mdbook = mdbook::find(&home)?;
    let said = mdbook::output(mdbook.command.arg("build").arg(&home))?;
    ensure!(mdbook::is_content(&said), "mdBook warns:\n{said}");
    let checked = site::check(&home.join("site"), mdbook.left_out)?;
    let (site, took) = (home.join("site/index.html"), start.elapsed().as_secs_f64());
    println!("{}: {checked} pages, every link leads somewhere, {took:.1} s", site.display());
    Ok(())
}

/// Removes the folder with everything in it.
fn empty(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", folder.display()))
        }
        _ => Ok(()),
    }
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    let folder = to.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(folder)
        .and_then(|()| fs::copy(from, to).map(drop))
        .with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))
}
