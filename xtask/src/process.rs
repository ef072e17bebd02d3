//! Runs other programs. It prints the name of each step, and with each failure the command, so that
//! it can be repeated by hand.
use std::{
    env,
    ffi::OsStr,
    fmt::Write as _,
    io::{self, IsTerminal as _},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, bail};

/// Prints the name of the next step.
pub fn announce(step: &str) {
    if io::stderr().is_terminal() {
        eprintln!("\x1b[1m==> {step}\x1b[0m");
    } else {
        eprintln!("==> {step}");
    }
}

/// Announces the step and runs the command with its output on the terminal.
pub fn run(step: &str, command: &mut Command) -> Result<()> {
    announce(step);
    let status = command.status().with_context(|| format!("cannot start: {}", shown(command)))?;
    check(status, command)
}

/// Like [`run`], but stops the command when `limit` has passed: for commands that depend on a
/// network, which may never answer.
pub fn run_within(step: &str, limit: Duration, command: &mut Command) -> Result<()> {
    announce(step);
    let mut child = command.spawn().with_context(|| format!("cannot start: {}", shown(command)))?;
    match wait_until(&mut child, Instant::now() + limit)? {
        Some(status) => check(status, command),
        None => bail!("no end after {} s: {}", limit.as_secs(), shown(command)),
    }
}

/// The exit status, or nothing if the child had to be stopped at the deadline.
fn wait_until(child: &mut Child, deadline: Instant) -> io::Result<Option<ExitStatus>> {
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() >= deadline {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        thread::sleep(Duration::from_millis(50));
    }
}

/// Runs the command silently and returns what it printed, without the white space around it.
pub fn capture(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("cannot start: {}", shown(command)))?;
    let Output { status, stdout, stderr } = output;
    if !status.success() {
        let said = String::from_utf8_lossy(&stderr);
        bail!("{status}: {}\n{}", shown(command), said.trim_end());
    }
    Ok(String::from_utf8_lossy(&stdout).trim().to_owned())
}

fn check(status: ExitStatus, command: &Command) -> Result<()> {
    if status.success() { Ok(()) } else { Err(anyhow!("{status}: {}", shown(command))) }
}

/// The command as it would be typed into a shell, with the environment that was set for it.
pub fn shown(command: &Command) -> String {
    let mut line = String::new();
    if let Some(dir) = command.get_current_dir() {
        let _ = write!(line, "cd {} && ", quoted(dir.as_os_str()));
    }
    for (name, value) in command.get_envs() {
        if let Some(value) = value {
            let _ = write!(line, "{}={} ", name.to_string_lossy(), quoted(value));
        }
    }
    line.push_str(&quoted(command.get_program()));
    for argument in command.get_args() {
        let _ = write!(line, " {}", quoted(argument));
    }
    line
}

fn quoted(word: &OsStr) -> String {
    let word = word.to_string_lossy();
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_=+./:,@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.into_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// Where the program is found on `PATH`.
pub fn on_path(program: &str) -> Option<PathBuf> {
    on_path_of(&env::var_os("PATH")?, program)
}

fn on_path_of(path: &OsStr, program: &str) -> Option<PathBuf> {
    env::split_paths(path).map(|dir| dir.join(program)).find(|file| executable(file))
}

fn executable(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    file.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_shown_as_it_would_be_typed() {
        let mut command = Command::new("cargo");
        command.args(["build", "--config", "a='b c'", ""]).env("LLVM_PREFIX", "/a b");
        command.env_remove("RUSTC").current_dir("/src");
        let typed = r"cd /src && LLVM_PREFIX='/a b' cargo build --config 'a='\''b c'\''' ''";
        assert_eq!(shown(&command), typed);
    }

    #[test]
    fn a_failure_names_its_command() {
        let error = run("fail", Command::new("sh").args(["-c", "exit 3"])).unwrap_err();
        assert_eq!(error.to_string(), "exit status: 3: sh -c 'exit 3'");
        let error = capture(Command::new("sh").args(["-c", "echo why >&2; exit 3"])).unwrap_err();
        assert!(error.to_string().ends_with("\nwhy"), "{error}");
        let error = run("absent", &mut Command::new("/no/such/program")).unwrap_err();
        assert_eq!(error.to_string(), "cannot start: /no/such/program");
    }

    #[test]
    fn a_command_without_end_is_stopped() {
        let error = run_within("hang", Duration::ZERO, Command::new("sleep").arg("1000"));
        assert_eq!(error.unwrap_err().to_string(), "no end after 0 s: sleep 1000");
    }

    #[test]
    fn programs_are_found_on_the_path() {
        assert!(on_path_of(OsStr::new("/nowhere:/usr/bin:/bin"), "sh").is_some());
        assert_eq!(on_path_of(OsStr::new("/nowhere:/usr/bin:/bin"), "passwd.txt"), None);
    }
}
