//! The Debian package, of the ordinary build: what dpkg reads of it, its installation and removal in a root
//! of its own, and what systemd says of its unit.
use std::{fs, path::Path, process::Command};

use anyhow::{Context, Result, ensure};
use nix::unistd::geteuid;
use xtask::{
    apt::Apt,
    arch::Arch,
    process,
    release::{self, Content},
    workspace::Workspace,
};

use crate::{dynamic, stage::Programs, vm::packages};

/// The largest exposure that `systemd-analyze security` may tell of the unit, in tenths: systemd 252 and 257
/// tell 2.9, and other versions may weigh settings differently.
const EXPOSURE: &str = "32";

/// What `systemctl enable` makes.
const ENABLED: &str = "etc/systemd/system/multi-user.target.wants/paramedic.service";

pub(super) fn run(workspace: &Workspace) -> Result<()> {
    let home = workspace.target.join("package");
    fs::create_dir_all(&home).with_context(|| format!("cannot make {}", home.display()))?;
    let folder = tempfile::tempdir_in(&home)?;
    let agent = Programs::as_tested(workspace)?.agent;
    let agent = dynamic::strip(&agent, folder.path())?;
    let content = Content::of(workspace, Arch::here()?, &agent, &agent, 1_700_000_000)?;
    let package = home.join("paramedic.deb");
    fs::write(&package, release::deb(&content)?).context("cannot write the package")?;
    process::announce("what dpkg reads of it");
    let control = process::capture(Command::new("dpkg-deb").arg("--info").arg(&package))?;
    ensure!(control.contains("Package: paramedic"), "{control}");
    process::capture(Command::new("dpkg-deb").arg("--contents").arg(&package))?;
    let root = folder.path().join("root");
    install(&package, &root)?;
    judge(&home, &root)?;
    remove(&root)
}

/// Has dpkg install it, and looks whether its parts are where they are used.
fn install(package: &Path, root: &Path) -> Result<()> {
    process::announce("installation in a root of its own");
    for folder in ["var/lib/dpkg/updates", "var/lib/dpkg/info"] {
        fs::create_dir_all(root.join(folder)).context("no root for dpkg")?;
    }
    fs::write(root.join("var/lib/dpkg/status"), "").context("no root for dpkg")?;
    process::capture(dpkg(root).arg("--install").arg(package))?;
    let program = root.join("usr/bin/paramedic");
    let version = process::capture(Command::new(program).arg("--version"))?;
    ensure!(version == concat!("paramedic ", env!("CARGO_PKG_VERSION")), "{version}");
    for file in ["man1/paramedic.1.gz", "man1/kubectl-paramedic.1.gz"] {
        let page = root.join("usr/share/man").join(file);
        let text = process::capture(Command::new("gzip").arg("-dc").stdin(fs::File::open(page)?))?;
        ensure!(text.contains(".TH"), "{file} is no manual page");
    }
    // As if it had run.
    for file in ["var/lib/paramedic/journal.sqlite3", ENABLED] {
        let file = root.join(file);
        let folder = file.parent().context("a file in no folder")?;
        fs::create_dir_all(folder).and_then(|()| fs::write(&file, "")).context("no state")?;
    }
    Ok(())
}

/// A removal keeps configuration and state; a purge does not.
fn remove(root: &Path) -> Result<()> {
    process::announce("removal");
    let [state, config, program] =
        ["var/lib/paramedic", "etc/default/paramedic", "usr/bin/paramedic"].map(|at| root.join(at));
    process::capture(dpkg(root).args(["--remove", "paramedic"]))?;
    ensure!(
        !program.exists() && config.exists() && state.exists(),
        "removed too much or too little"
    );
    process::capture(dpkg(root).args(["--purge", "paramedic"]))?;
    ensure!(!config.exists() && !state.exists(), "a purge left something");
    Ok(())
}

/// dpkg in this root, whose scripts it runs outside, with `DPKG_ROOT`.
fn dpkg(root: &Path) -> Command {
    let mut command = if geteuid().is_root() {
        Command::new("dpkg")
    } else {
        let mut command = Command::new("unshare");
        command.args(["--map-root-user", "--", "dpkg"]);
        command
    };
    command.arg(format!("--root={}", root.display())).arg("--force-script-chrootless");
    // It looks for ldconfig.
    command.args(["--log=/dev/null"]).env("PATH", path_with_sbin());
    command
}

fn path_with_sbin() -> String {
    format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default())
}

/// systemd reads the unit without a complaint and finds it little exposed.
fn judge(home: &Path, root: &Path) -> Result<()> {
    process::announce("the unit, by systemd-analyze");
    let root = format!("--root={}", root.display());
    let unit = "paramedic.service";
    // Its own file alone: the root has no other units and no manual pages' reader.
    let verify = ["verify", "--man=no", "--recursive-errors=no"];
    process::capture(analyze(home)?.args(verify).args([&root, unit]))?;
    let security = ["security", "--offline=true", "--threshold", EXPOSURE, "--no-pager"];
    let said = process::capture(analyze(home)?.args(security).args([&root, unit]))
        .context("the unit has more rights than it had: docs/install.md tells what each is for")?;
    println!("    {}", said.lines().last().unwrap_or_default());
    Ok(())
}

/// systemd-analyze: the one of this machine, else Debian's, unpacked below the folder.
fn analyze(home: &Path) -> Result<Command> {
    const NAME: &str = "systemd-analyze";
    if let Some(program) = process::on_path(NAME) {
        return Ok(Command::new(program));
    }
    let root = Apt::first_that_works(&home.join("apt"), |apt| {
        packages::unpacked(apt, home, "systemd", |package| package.starts_with("lib"))
    })
    .with_context(|| format!("{NAME} comes from Debian's package systemd"))?;
    let machine = format!("{}-linux-gnu", std::env::consts::ARCH);
    // Its own library is in a folder of its own, and Debian 12 has both below lib/.
    let below = |lib: &str| {
        let folder = root.join(lib).join(&machine);
        format!("{0}:{0}/systemd", folder.display())
    };
    let mut command = Command::new(root.join("usr/bin").join(NAME));
    command.env("LD_LIBRARY_PATH", ["lib", "usr/lib"].map(below).join(":"));
    Ok(command)
}
