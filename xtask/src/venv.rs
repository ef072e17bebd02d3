//! Python's libraries, in virtual environments below `target/`: nothing is installed into the
//! machine, and `cargo clean` removes them. They are installed again only when what is required
//! changes.
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

use crate::process;

/// A virtual environment and the interpreter that it is made with.
pub struct Venv<'a> {
    /// Where the environment is.
    pub dir: PathBuf,
    /// Python 3.11 or newer.
    pub base: &'a Path,
    /// What is installed, for people to read.
    pub what: &'static str,
}

impl Venv<'_> {
    /// The environment's interpreter, with exactly the requirements of these files installed.
    pub fn ready(&self, requirements: &[PathBuf]) -> Result<PathBuf> {
        let read = |file: &PathBuf| {
            fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))
        };
        let wanted = requirements.iter().map(read).collect::<Result<String>>()?;
        let python = self.dir.join("bin").join("python");
        let stamp = self.dir.join("requirements.installed");
        if python.exists() && fs::read_to_string(&stamp).is_ok_and(|have| have == wanted) {
            return Ok(python);
        }
        self.create()?;
        self.install(&python, requirements)?;
        fs::write(&stamp, wanted).with_context(|| format!("cannot write {}", stamp.display()))?;
        Ok(python)
    }

    fn create(&self) -> Result<()> {
        let recent = "import sys; sys.exit(sys.version_info < (3, 11))";
        process::run("check python", Command::new(self.base).args(["-c", recent])).with_context(
            || {
                format!(
                    "{} is not Python 3.11 or newer: install it (Debian: `apt-get install python3 \
                     python3-venv`)",
                    self.base.display()
                )
            },
        )?;
        let make = "make a virtual environment below target/";
        process::run(make, Command::new(self.base).args(["-m", "venv"]).arg(&self.dir)).with_context(|| {
            format!(
                "no virtual environment: install Python's venv module (Debian: `apt-get install \
                 python3-venv`), or delete {} if it is broken",
                self.dir.display()
            )
        })
    }

    fn install(&self, python: &Path, requirements: &[PathBuf]) -> Result<()> {
        let mut pip = Command::new(python);
        pip.args(["-m", "pip", "install", "--disable-pip-version-check"]);
        for file in requirements {
            pip.arg("--requirement").arg(file);
        }
        process::run(&format!("install {}, once", self.what), &mut pip).with_context(|| {
            format!(
                "{} cannot be installed: is a Python package index within reach? If so, delete {} \
                 and run this again",
                self.what,
                self.dir.display()
            )
        })
    }
}
