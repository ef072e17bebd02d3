//! A minimal `kill`, after util-linux's: the image holds nothing but this program, and the demo
//! ends the app by `kubectl exec POD -- kill 1`.
use std::ffi::{OsStr, OsString};
use std::path::Path;

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const USAGE: &str = "usage: kill [-SIGNAL | -s SIGNAL] [--] PID...";

/// Exit codes of util-linux.
const DONE: u8 = 0;
const FAILED: u8 = 1;
const PARTLY: u8 = 64;

/// A request; without a signal it is signal 0, which only checks whether the process exists.
#[derive(Debug, PartialEq, Eq)]
struct Request {
    signal: Option<Signal>,
    pids: Vec<Pid>,
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
enum Misuse {
    #[error("not enough arguments")]
    NoProcess,
    #[error("option requires an argument -- 's'")]
    NoSignal,
    #[error("unknown signal: {0}")]
    Signal(String),
    #[error("not a process id: {0}")]
    Process(String),
}

/// Whether the program was started under the name `kill`.
#[must_use]
pub fn is_called_by(name: &OsStr) -> bool {
    Path::new(name).file_name() == Some(OsStr::new("kill"))
}

/// Sends the requested signal and returns the exit code: 0 if all of the processes got it, 1 if
/// none did, 64 if some did.
pub fn run(arguments: impl Iterator<Item = OsString>) -> u8 {
    let arguments = arguments.map(|a| a.to_string_lossy().into_owned()).collect::<Vec<_>>();
    match Request::parse(&arguments) {
        Ok(request) => request.send(),
        Err(misuse) => {
            eprintln!("kill: {misuse}\n{USAGE}");
            FAILED
        }
    }
}

impl Request {
    fn parse(arguments: &[String]) -> Result<Self, Misuse> {
        let (signal, rest) = match arguments {
            [dashes, rest @ ..] if dashes == "--" => (Some(Signal::SIGTERM), rest),
            [option, name, rest @ ..] if option == "-s" => (signal(name)?, rest),
            [option] if option == "-s" => return Err(Misuse::NoSignal),
            [option, rest @ ..] if option.starts_with('-') => (signal(&option[1..])?, rest),
            rest => (Some(Signal::SIGTERM), rest),
        };
        let rest = rest.strip_prefix(&["--".to_owned()]).unwrap_or(rest);
        if rest.is_empty() {
            return Err(Misuse::NoProcess);
        }
        let pids = rest.iter().map(|text| pid(text)).collect::<Result<_, _>>()?;
        Ok(Self { signal, pids })
    }

    fn send(&self) -> u8 {
        let reached = self.pids.iter().filter(|pid| match kill(**pid, self.signal) {
            Ok(()) => true,
            Err(error) => {
                eprintln!("kill: sending signal to {pid} failed: {}", Errno::desc(error));
                false
            }
        });
        match reached.count() {
            0 => FAILED,
            all if all == self.pids.len() => DONE,
            _ => PARTLY,
        }
    }
}

/// A signal by number or by name, with or without SIG, in either case.
fn signal(text: &str) -> Result<Option<Signal>, Misuse> {
    let unknown = || Misuse::Signal(text.to_owned());
    if let Ok(number) = text.parse::<u8>() {
        return match number {
            0 => Ok(None),
            _ => Signal::try_from(i32::from(number)).map(Some).map_err(|_| unknown()),
        };
    }
    let name = text.to_ascii_uppercase();
    let name = name.strip_prefix("SIG").unwrap_or(&name);
    format!("SIG{name}").parse().map(Some).map_err(|_| unknown())
}

/// A process, or with a minus its group; -1 is every process, as in kill(2).
fn pid(text: &str) -> Result<Pid, Misuse> {
    text.parse().map(Pid::from_raw).map_err(|_| Misuse::Process(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Request, Misuse> {
        Request::parse(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    fn request(signal: impl Into<Option<Signal>>, pids: &[i32]) -> Result<Request, Misuse> {
        let pids = pids.iter().copied().map(Pid::from_raw).collect();
        Ok(Request { signal: signal.into(), pids })
    }

    #[test]
    fn the_name_kill_selects_the_command() {
        for name in ["kill", "/bin/kill", "./kill"] {
            assert!(is_called_by(OsStr::new(name)), "{name}");
        }
        for name in ["patient-app", "/kill/patient-app", "pkill", "", "/"] {
            assert!(!is_called_by(OsStr::new(name)), "{name}");
        }
    }

    #[test]
    fn signals_have_names_and_numbers() {
        assert_eq!(parse("1"), request(Signal::SIGTERM, &[1]));
        for line in ["-9 1 2", "-KILL 1 2", "-sigkill -- 1 2", "-s SIGKILL 1 2", "-s 9 -- 1 2"] {
            assert_eq!(parse(line), request(Signal::SIGKILL, &[1, 2]), "{line}");
        }
        assert_eq!(parse("-0 7"), request(None, &[7]));
    }

    #[test]
    fn a_negative_pid_is_a_group() {
        assert_eq!(parse("-- -7"), request(Signal::SIGTERM, &[-7]));
        assert_eq!(parse("-HUP -7"), request(Signal::SIGHUP, &[-7]));
    }

    #[test]
    fn invalid_arguments_are_refused() {
        assert_eq!(parse(""), Err(Misuse::NoProcess));
        assert_eq!(parse("--"), Err(Misuse::NoProcess));
        // util-linux also reads it as signal 1, so that a slip kills no process.
        assert_eq!(parse("-1"), Err(Misuse::NoProcess));
        assert_eq!(parse("-s"), Err(Misuse::NoSignal));
        assert_eq!(parse("-FOO 1"), Err(Misuse::Signal("FOO".into())));
        assert_eq!(parse("-99 1"), Err(Misuse::Signal("99".into())));
        assert_eq!(parse("patient"), Err(Misuse::Process("patient".into())));
        assert_eq!(parse("1 99999999999"), Err(Misuse::Process("99999999999".into())));
    }

    #[test]
    fn the_exit_code_tells_how_many_were_reached() {
        let own = std::process::id().to_string();
        // Beyond the largest pid of Linux.
        let absent = "4194305";
        let code = |pids: &[&str]| run(["-0"].iter().chain(pids).map(OsString::from));
        assert_eq!(code(&[&own]), DONE);
        assert_eq!(code(&[&own, absent]), PARTLY);
        assert_eq!(code(&[absent]), FAILED);
        assert_eq!(code(&[]), FAILED);
    }
}
