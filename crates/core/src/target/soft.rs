//! The soft remedy of a target: what its owner offers.
//!
//! The usual one is the request of the original system, `POST /heal`. Other programs have others:
//! Spring Boot reloads its configuration at `POST /actuator/refresh`, nginx and HAProxy at SIGHUP.
use std::fmt;

use super::settings::is_path;

/// The request of the original system.
const USUAL_PATH: &str = "/heal";
const USUAL_BODY: &str = r#"{"action":"reset_errors"}"#;
/// Maximum length of a request's body, in bytes.
const LONGEST_BODY: usize = 1024;

/// What resets a target without an interruption.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Soft {
    /// This request to its address.
    Http(SoftRequest),
    /// This signal to its main process.
    Signal(SoftSignal),
    /// Its owner offers no soft remedy.
    None,
}

/// An HTTP request that resets an app.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SoftRequest {
    /// The method.
    pub method: SoftMethod,
    /// The path, with an optional query.
    pub path: String,
    /// The body; empty for none.
    pub body: String,
}

/// The methods of requests that change something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SoftMethod {
    /// `POST`
    Post,
    /// `PUT`
    Put,
    /// `PATCH`
    Patch,
    /// `DELETE`
    Delete,
}

/// The signals by which programs reload or rotate. SIGQUIT is not among them: it prints the threads of
/// a JVM, and ends a Go program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SoftSignal {
    /// SIGHUP: by convention, reload the configuration.
    Hup,
    /// SIGUSR1
    Usr1,
    /// SIGUSR2
    Usr2,
    /// SIGWINCH
    Winch,
}

/// Why a text names no soft remedy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", Self::WHY)]
pub struct NoSoft;

impl NoSoft {
    /// The reason.
    pub(super) const WHY: &str =
        "none of `http METHOD /path [body]`, `signal HUP|USR1|USR2|WINCH`, `none`";
}

impl Default for Soft {
    fn default() -> Self {
        Self::post(USUAL_PATH)
    }
}

impl Soft {
    /// The request of the original system, at this path.
    #[must_use]
    pub fn post(path: &str) -> Self {
        let (path, body) = (path.to_owned(), USUAL_BODY.to_owned());
        Self::Http(SoftRequest { method: SoftMethod::Post, path, body })
    }

    /// Whether the owner names another than the usual one.
    #[must_use]
    pub fn is_named(&self) -> bool {
        let Self::Http(SoftRequest { method, path, body }) = self else { return true };
        !(*method == SoftMethod::Post && path == USUAL_PATH && body == USUAL_BODY)
    }

    /// Reads `http METHOD /path [body]`, `signal NAME` or `none`.
    ///
    /// # Errors
    /// [`NoSoft`] for anything else: another method or signal, a path with a space, a body that is
    /// longer than 1 KiB or has control characters.
    pub fn read(text: &str) -> Result<Self, NoSoft> {
        let (kind, rest) = text.split_once(' ').unwrap_or((text, ""));
        match kind {
            "none" if rest.is_empty() => Ok(Self::None),
            "signal" => SoftSignal::read(rest).map(Self::Signal).ok_or(NoSoft),
            "http" => SoftRequest::read(rest).map(Self::Http).ok_or(NoSoft),
            _ => Err(NoSoft),
        }
    }

    /// The text without spaces, at most 64 characters.
    pub(super) fn word(&self) -> String {
        self.to_string().replace(' ', "-").chars().take(64).collect()
    }

    /// Its kind, as a label: finite, in snake case.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Http(_) => "http",
            Self::Signal(_) => "signal",
            Self::None => "none",
        }
    }
}

/// As [`Soft::read`] reads it.
impl fmt::Display for Soft {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http(SoftRequest { method, path, body }) => {
                write!(f, "http {} {path}", method.name())?;
                if body.is_empty() { Ok(()) } else { write!(f, " {body}") }
            }
            Self::Signal(signal) => write!(f, "signal {}", signal.name()),
            Self::None => f.write_str("none"),
        }
    }
}

impl SoftRequest {
    fn read(text: &str) -> Option<Self> {
        let (method, rest) = text.split_once(' ')?;
        let (path, body) = rest.split_once(' ').unwrap_or((rest, ""));
        let fits = body.len() <= LONGEST_BODY && !body.chars().any(char::is_control);
        let method = SoftMethod::read(method).filter(|_| fits && is_path(path))?;
        Some(Self { method, path: path.to_owned(), body: body.to_owned() })
    }

    /// Whether the body is JSON, by its first character.
    #[must_use]
    pub fn is_json(&self) -> bool {
        self.body.starts_with(['{', '['])
    }
}

impl SoftMethod {
    const ALL: [Self; 4] = [Self::Post, Self::Put, Self::Patch, Self::Delete];

    fn read(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|method| method.name() == name)
    }

    /// Its name in a request.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
        }
    }
}

impl SoftSignal {
    const ALL: [Self; 4] = [Self::Hup, Self::Usr1, Self::Usr2, Self::Winch];

    fn read(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|signal| signal.name() == name)
    }

    /// Its name, without `SIG`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Hup => "HUP",
            Self::Usr1 => "USR1",
            Self::Usr2 => "USR2",
            Self::Winch => "WINCH",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_is_written_the_same() {
        for text in [
            "http POST /actuator/refresh",
            "http PUT /cache?all=1 {\"clear\": true}",
            "http DELETE /sessions",
            "http PATCH /mode reset now",
            "signal HUP",
            "signal USR1",
            "signal USR2",
            "signal WINCH",
            "none",
        ] {
            assert_eq!(Soft::read(text).unwrap().to_string(), text);
        }
        let default = Soft::default().to_string();
        assert_eq!(Soft::read(&default), Ok(Soft::default()));
        assert!(!Soft::default().is_named() && Soft::post("/reset").is_named());
    }

    #[test]
    fn what_could_do_harm_is_refused() {
        let long = format!("http POST /heal {}", "x".repeat(1025));
        for text in [
            "",
            "http",
            "http POST",
            "http POST heal",
            "http GET /shutdown",
            "http post /heal",
            "http POST /a\tb",
            "http POST /a b\r\nX: y",
            "http POST http://elsewhere/",
            "signal",
            "signal QUIT",
            "signal KILL",
            "signal TERM",
            "signal SIGHUP",
            "signal 1",
            "none of these",
            "NONE",
            "exec rm",
            &long,
        ] {
            assert_eq!(Soft::read(text), Err(NoSoft), "{text:?}");
        }
    }

    #[test]
    fn a_body_is_json_by_its_first_character() {
        let is_json = |text: &str| match Soft::read(text) {
            Ok(Soft::Http(request)) => request.is_json(),
            other => panic!("{other:?}"),
        };
        assert!(is_json("http POST /a {}") && is_json("http POST /a [1]"));
        assert!(!is_json("http POST /a") && !is_json("http POST /a now"));
    }
}
