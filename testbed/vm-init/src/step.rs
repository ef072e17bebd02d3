//! Runs one program to its end, and says how it went.
use std::{
    io,
    os::unix::process::CommandExt,
    process::{Command, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use crate::{plan::Step, report::Report};

/// From the end of a step to the end of its output: a child that was left behind may hold it open.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// What is called by its name is found here, as on any machine.
const PATH: &str = "/usr/bin:/bin";

/// Whether the step succeeded. Says when it begins (`@begin NAME`) and how it ended (`@end NAME`,
/// the exit code, `signal` or `timeout`, and the milliseconds that it took).
pub(crate) fn run(step: &Step<'_>, report: &Report) -> io::Result<bool> {
    report.say(&format!("@begin\t{}", step.name));
    let begun = Instant::now();
    let (output, input) = io::pipe()?;
    let mut command = Command::new(step.program);
    command
        .args(&step.arguments)
        .env_clear()
        .envs([("PATH", PATH), ("HOME", "/tmp"), ("RUST_BACKTRACE", "1")])
        .current_dir("/tmp")
        .stdin(Stdio::null())
        .stdout(input.try_clone()?)
        .stderr(input)
        .process_group(0);
    let child = command.spawn().map_err(|e| io::Error::other(format!("{}: {e}", step.program)))?;
    // The command holds the other ends of the pipe.
    drop(command);
    let (done, ended) = mpsc::channel::<()>();
    thread::spawn({
        let report = report.clone();
        move || {
            report.pass_on(output);
            drop(done);
        }
    });
    let pid = child.id().cast_signed();
    let how = wait(pid, begun + step.limit);
    let _ = ended.recv_timeout(LAST_WORDS);
    let took = begun.elapsed().as_millis();
    // On a line of its own, even if the step's last one has no end.
    report.say(&format!("\n@end\t{}\t{how}\t{took}", step.name));
    Ok(how == step.code)
}

/// Waits for the child, and for whatever else has ended without a parent.
fn wait(pid: libc::pid_t, deadline: Instant) -> String {
    loop {
        let mut status = 0;
        // SAFETY: the pointer is to an integer that outlives the call.
        let ended = unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG) };
        if ended == pid {
            let exited = libc::WIFEXITED(status);
            return if exited { libc::WEXITSTATUS(status).to_string() } else { "signal".into() };
        }
        if ended <= 0 {
            if Instant::now() >= deadline {
                // SAFETY: takes no pointer; the group is the step's own.
                unsafe { libc::kill(-pid, libc::SIGKILL) };
                return "timeout".into();
            }
            thread::sleep(Duration::from_millis(10));
        }
    }
}
