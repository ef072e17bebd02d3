//! The fuzz targets of `fuzz/`, each for 15 s, two at a time.
//!
//! They run without a sanitizer: the readers that they try are safe Rust, in which a sanitizer finds
//! nothing that a panic does not tell. So the workspace's own toolchain builds them, and no nightly
//! has to be there. What a run finds stays below `target/fuzz`, and the next run begins with it.
use std::{
    env,
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
    thread,
};

use anyhow::{Context, Result, anyhow, bail, ensure};
use xtask::{install::Tool, process, workspace::Workspace};

use super::{cargo, summary::Outcome};
use crate::stage::tail;

const VERSION: &str = "0.13.2";

/// How long each target runs.
const SECONDS: u32 = 15;
/// How many run at the same time: this is what the machines of CI have processors for.
const AT_ONCE: usize = 2;

pub(super) fn run(workspace: &Workspace) -> Result<Outcome> {
    let cargo_fuzz = match tool(workspace) {
        Ok(program) => program,
        Err(error) if is_ci() => return Err(error),
        Err(error) => {
            let why = format!("{error:#}");
            eprintln!("warning: the fuzz targets were NOT run: {why}");
            return Ok(Outcome::NotChecked(why));
        }
    };
    let home = workspace.target.join("fuzz");
    let names = targets(&workspace.root.join("fuzz/targets"))?;
    build(workspace, &cargo_fuzz, &home)?;
    process::announce(&format!("fuzz for {SECONDS} s each: {}", names.join(", ")));
    let (names, home) = (names.as_slice(), home.as_path());
    let share = |first| {
        let run = names.iter().skip(first).step_by(AT_ONCE).map(|name| fuzz(workspace, home, name));
        run.filter_map(|ended| Some(format!("{:#}", ended.err()?))).collect::<Vec<_>>()
    };
    let failed: Vec<String> = thread::scope(|scope| {
        let workers: Vec<_> = (0..AT_ONCE).map(|first| scope.spawn(move || share(first))).collect();
        let died = |_| vec!["a thread that waits for a target has died".to_owned()];
        workers.into_iter().flat_map(|worker| worker.join().unwrap_or_else(died)).collect()
    });
    if failed.is_empty() { Ok(Outcome::Passed) } else { bail!("{}", failed.join("\n")) }
}

/// Where nothing may be left out.
fn is_ci() -> bool {
    env::var_os("CI").is_some_and(|value| !value.is_empty() && value != "false")
}

/// cargo-fuzz from `PATH`, else built below the target directory, once.
fn tool(workspace: &Workspace) -> Result<PathBuf> {
    let compiler = env::var_os("CXX").is_some() || process::on_path("c++").is_some();
    ensure!(compiler, "libFuzzer needs a C++ compiler: install Debian's g++, or set CXX");
    let tool = Tool { name: "cargo-fuzz", version: VERSION, home: workspace.target.join("tools") };
    if let Some(program) = process::on_path(tool.name) {
        return Ok(program);
    }
    if !tool.program().exists() {
        tool.build(workspace, |_| {})
            .context("put cargo-fuzz on PATH, or connect to the registry")?;
    }
    Ok(tool.program())
}

fn targets(folder: &Path) -> Result<Vec<String>> {
    let unread = || format!("cannot read {}", folder.display());
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).with_context(unread)? {
        let path = entry.with_context(unread)?.path();
        names.extend(path.file_stem().map(|name| name.to_string_lossy().into_owned()));
    }
    names.sort();
    Ok(names)
}

fn build(workspace: &Workspace, cargo_fuzz: &Path, home: &Path) -> Result<()> {
    // cargo-fuzz would write the lock file again and say nothing.
    let mut locked = cargo(workspace);
    locked.args(["metadata", "--locked", "--format-version=1", "--manifest-path=fuzz/Cargo.toml"]);
    process::capture(&mut locked)
        .context("`cargo update --workspace --manifest-path fuzz/Cargo.toml` puts it right")?;
    let mut build = Command::new(cargo_fuzz);
    build.args(["fuzz", "build", "--sanitizer=none", "--strip-dead-code", "--target-dir"]);
    build.arg(home).current_dir(&workspace.root);
    process::run("build the fuzz targets (some minutes the first time)", &mut build)
}

/// Runs one target, with its output in a log.
fn fuzz(workspace: &Workspace, home: &Path, name: &str) -> Result<()> {
    let [found, artifacts, logs] = ["found", "artifacts", "logs"].map(|folder| home.join(folder));
    let (found, log) = (found.join(name), logs.join(format!("{name}.log")));
    for folder in [&found, &artifacts, &logs] {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    let output = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
    let triple = format!("{}-unknown-linux-gnu", env::consts::ARCH);
    let mut command = Command::new(home.join(triple).join("release").join(name));
    command.arg(&found).arg(workspace.root.join("fuzz/corpus").join(name));
    command.args(["-timeout=10", "-rss_limit_mb=1024", "-print_final_stats=1"]);
    command.arg(format!("-max_total_time={SECONDS}"));
    command.arg(format!("-artifact_prefix={}/{name}-", artifacts.display()));
    command.stdout(output.try_clone()?).stderr(output);
    let status = command.status().with_context(|| format!("cannot start {name}"))?;
    if status.success() {
        println!("    {name}: {}", tried(&tail(&log, 20)).unwrap_or("ended"));
        return Ok(());
    }
    let said = tail(&log, 40);
    eprintln!("{said}");
    let input = said.lines().find_map(|line| line.split_once("Test unit written to "));
    let input = input.map_or("INPUT", |(_, path)| path);
    Err(anyhow!("{name}: {status}; `cargo fuzz run --sanitizer none {name} {input}` repeats it"))
}

/// The number of inputs, in libFuzzer's final statistics.
fn tried(log: &str) -> Option<&str> {
    log.lines().find_map(|line| line.strip_prefix("Done "))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// In bytes, of a seed and of all of them.
    const SEED: u64 = 4096;
    const ALL: u64 = 500_000;

    fn fuzz() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz")
    }

    #[test]
    fn every_target_is_built_and_has_seeds() {
        let manifest = fs::read_to_string(fuzz().join("Cargo.toml")).unwrap();
        let names = targets(&fuzz().join("targets")).unwrap();
        let seeds = targets(&fuzz().join("corpus")).unwrap();
        assert!(!names.is_empty());
        assert_eq!(names, seeds);
        assert_eq!(manifest.matches("[[bin]]").count(), names.len());
        for name in names {
            let path = format!("name = \"{name}\"\npath = \"targets/{name}.rs\"\n");
            assert!(manifest.contains(&path), "{name}");
        }
    }

    #[test]
    fn seeds_are_small() {
        let mut all = 0;
        for target in targets(&fuzz().join("corpus")).unwrap() {
            for seed in fs::read_dir(fuzz().join("corpus").join(target)).unwrap() {
                let seed = seed.unwrap();
                // What a run by hand leaves there is not committed.
                if seed.file_name().len() == 40 {
                    continue;
                }
                let size = seed.metadata().unwrap().len();
                assert!(size <= SEED, "{}: {size} bytes", seed.path().display());
                all += size;
            }
        }
        assert!(all > 0 && all <= ALL, "{all} bytes");
    }

    #[test]
    fn the_number_of_inputs_is_found_in_a_log() {
        let log = "#9\tDONE   cov: 1\nDone 4711 runs in 61 second(s)\nstat::peak_rss_mb: 50";
        assert_eq!(tried(log), Some("4711 runs in 61 second(s)"));
        assert_eq!(tried("#9\tNEW"), None);
    }
}
