//! What `--notify` selects: a kind of receiver, its address and its key, and a name if it is only for
//! those who ask for it.
use std::{
    fmt, fs,
    io::{self, Read as _},
    path::Path,
};

use paramedic_core::target::ChannelNames;
use paramedic_record::metrics::CHANNELS;

use crate::{
    address::{Address, UrlFault},
    secret::Secret,
    signature::digest,
};

/// Maximum size of a file with a key, in bytes.
const MAX_KEY: u64 = 4096;

/// Length of a routing key of PagerDuty, in characters.
const ROUTING_KEY: usize = 32;

/// Where PagerDuty's Events API is, unless the specification says otherwise.
const PAGERDUTY: &str = "https://events.pagerduty.com";

/// The kind of a receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Any program that takes JSON.
    Webhook,
    /// An incoming webhook of Slack, or of a program that is compatible with it.
    Slack,
    /// Prometheus Alertmanager.
    Alertmanager,
    /// PagerDuty's Events API, version 2.
    Pagerduty,
}

impl Kind {
    /// Its name in specifications, metrics and logs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        CHANNELS[self as usize]
    }

    /// The kind of this name, and whether its messages are signed.
    fn of(word: &str) -> Option<(Self, bool)> {
        match word {
            "webhook" => Some((Self::Webhook, false)),
            "webhook+hmac" => Some((Self::Webhook, true)),
            "slack" => Some((Self::Slack, false)),
            "alertmanager" => Some((Self::Alertmanager, false)),
            "pagerduty" => Some((Self::Pagerduty, false)),
            _ => None,
        }
    }
}

/// One receiver. Its `Debug` output has no secret.
#[derive(Clone, Debug)]
pub struct Channel {
    /// Its kind.
    pub kind: Kind,
    /// Where it was specified, for logs: `--notify 2`, `line 3 of FILE`.
    pub given: String,
    /// Identifies it in the journal, also after a restart, without its secret.
    pub id: String,
    /// Its name: it is told of the targets that name it. `None`: it is told of everything.
    pub name: Option<String>,
    pub(crate) address: Address,
    /// The key of the signature, or the routing key.
    pub(crate) key: Option<Secret>,
}

/// Why a specification is invalid. The text does not quote it, because it may be a secret.
#[derive(Debug, thiserror::Error)]
#[error("{given}: {fault}")]
pub struct SpecError {
    given: String,
    fault: Fault,
}

#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error(
        "it must be KIND=VALUE or NAME:KIND=VALUE, and KIND one of webhook, webhook+hmac, slack, \
         alertmanager and pagerduty, for example slack=https://hooks.slack.com/…"
    )]
    Form,
    #[error(
        "its name must have from 1 to 63 small letters, digits and -, with a letter or digit at both \
         ends, for example shop:slack=https://hooks.slack.com/…"
    )]
    Name,
    #[error("the URL of its {} {fault}", kind.name())]
    Url { kind: Kind, fault: UrlFault },
    #[error("webhook+hmac needs a file and a URL: webhook+hmac=KEYFILE,https://…")]
    NoKeyFile,
    #[error("cannot read the file with its key ({0}): correct the path, or its permissions")]
    KeyFile(io::Error),
    #[error("the file with its key must hold from 1 to {MAX_KEY} bytes of text")]
    Key,
    #[error(
        "pagerduty needs the integration key of a service, which has {ROUTING_KEY} letters and \
         digits: pagerduty=KEY, or pagerduty=KEY,https://events.eu.pagerduty.com"
    )]
    RoutingKey,
}

impl Channel {
    /// Reads a specification such as `slack=https://…` or `shop:slack=https://…`, and the file with its key if it names one.
    /// `given` says where it stands.
    ///
    /// # Errors
    /// What is wrong with it, and its correct form.
    pub fn parse(spec: &str, given: &str) -> Result<Self, SpecError> {
        Self::of(spec, read_key)
            .map(|channel| Self { given: given.to_owned(), ..channel })
            .map_err(|fault| SpecError { given: given.to_owned(), fault })
    }

    fn of(spec: &str, read: impl Fn(&Path) -> io::Result<String>) -> Result<Self, Fault> {
        let (words, value) = spec.trim().split_once('=').ok_or(Fault::Form)?;
        let (name, word) = match words.split_once(':') {
            Some((name, word)) => (Some(name), word),
            None => (None, words),
        };
        let (kind, signs) = Kind::of(word).ok_or(Fault::Form)?;
        if !name.is_none_or(ChannelNames::is_name) {
            return Err(Fault::Name);
        }
        let (key, url) = match kind {
            Kind::Webhook if signs => {
                let (file, url) = value.split_once(',').ok_or(Fault::NoKeyFile)?;
                (Some(key_of(&read(Path::new(file)).map_err(Fault::KeyFile)?)?), url)
            }
            Kind::Pagerduty => {
                let (key, url) = value.split_once(',').unwrap_or((value, PAGERDUTY));
                if key.len() != ROUTING_KEY || !key.bytes().all(|b| b.is_ascii_alphanumeric()) {
                    return Err(Fault::RoutingKey);
                }
                (Some(Secret::from(key.to_owned())), url)
            }
            Kind::Webhook | Kind::Slack | Kind::Alertmanager => (None, value),
        };
        let address = Address::of(url).map_err(|fault| Fault::Url { kind, fault })?;
        let address = match kind {
            Kind::Webhook | Kind::Slack => address,
            Kind::Alertmanager => address.below("/api/v2/alerts"),
            Kind::Pagerduty => address.below("/v2/enqueue"),
        };
        let exposed = key.as_ref().map_or("", Secret::expose);
        let digest = digest(&[url, exposed]);
        let id = format!("{}-{}", kind.name(), &digest[..16]);
        let name = name.map(str::to_owned);
        Ok(Self { kind, given: String::new(), id, name, address, key })
    }
}

/// A key without the end of its last line.
fn key_of(text: &str) -> Result<Secret, Fault> {
    let key = text.strip_suffix('\n').unwrap_or(text);
    let key = key.strip_suffix('\r').unwrap_or(key);
    if key.is_empty() || key.len() as u64 > MAX_KEY {
        return Err(Fault::Key);
    }
    Ok(key.to_owned().into())
}

fn read_key(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    fs::File::open(path)?.take(MAX_KEY + 2).read_to_string(&mut text)?;
    Ok(text)
}

/// The specifications in a file, one on each line, with the numbers of their lines. Empty lines and
/// lines that begin with `#` are comments.
pub fn specs(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines()
        .enumerate()
        .map(|(number, line)| (number + 1, line.trim()))
        .filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
}

impl fmt::Display for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => write!(f, "{name}:{} ({})", self.kind.name(), self.given),
            None => write!(f, "{} ({})", self.kind.name(), self.given),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "R0123456789abcdefABCDEF012345678";

    fn parse(spec: &str) -> Result<Channel, SpecError> {
        Channel::of(spec, |path| match path.to_str() {
            Some("/key") => Ok("s3cret\n".to_owned()),
            Some("/empty") => Ok("\n".to_owned()),
            _ => Err(io::ErrorKind::NotFound.into()),
        })
        .map_err(|fault| SpecError { given: "--notify 1".to_owned(), fault })
    }

    #[test]
    fn every_form_is_read() {
        for (spec, kind, url) in [
            ("webhook=https://a.example/hook?t=1", Kind::Webhook, "https a.example 443 /hook?t=1"),
            ("webhook=HTTP://a.example:8080", Kind::Webhook, "http a.example 8080 /"),
            ("webhook+hmac=/key,http://[::1]:9/a,b", Kind::Webhook, "http ::1 9 /a,b"),
            (
                " slack=https://hooks.slack.com/services/T/B/x ",
                Kind::Slack,
                "https hooks.slack.com 443 /services/T/B/x",
            ),
            ("alertmanager=http://am:9093", Kind::Alertmanager, "http am 9093 /api/v2/alerts"),
            ("alertmanager=https://x/am/", Kind::Alertmanager, "https x 443 /am/api/v2/alerts"),
            (
                &format!("pagerduty={KEY}"),
                Kind::Pagerduty,
                "https events.pagerduty.com 443 /v2/enqueue",
            ),
            (
                &format!("pagerduty={KEY},https://events.eu.pagerduty.com"),
                Kind::Pagerduty,
                "https events.eu.pagerduty.com 443 /v2/enqueue",
            ),
        ] {
            let channel = parse(spec).unwrap();
            let Address { tls, host, port, path, .. } = &channel.address;
            let scheme = if *tls { "https" } else { "http" };
            assert_eq!(channel.kind, kind, "{spec}");
            assert!(spec.trim_start().starts_with(kind.name()), "{spec}");
            assert_eq!(format!("{scheme} {host} {port} {}", path.expose()), url, "{spec}");
        }
        let named = parse("on-call:slack=https://a/x:y").unwrap();
        assert_eq!(named.name.as_deref(), Some("on-call"));
        assert_eq!(named.to_string(), "on-call:slack ()");
        let signed = parse("webhook+hmac=/key,http://a").unwrap();
        assert_eq!(signed.key.unwrap().expose(), "s3cret");
    }

    #[test]
    fn refusals_say_what_to_do_and_quote_no_secret() {
        for (spec, why) in [
            ("", "KIND=VALUE"),
            ("https://hooks.slack.com/services/SECRET", "KIND=VALUE"),
            ("teams=https://SECRET", "webhook+hmac, slack,"),
            ("Shop:slack=https://SECRET", "small letters"),
            (":slack=https://SECRET", "small letters"),
            ("a:b:slack=https://SECRET", "KIND=VALUE"),
            ("slack=hooks.slack.com/SECRET", "https:// or http://"),
            ("slack=ftp://SECRET", "https:// or http://"),
            ("slack=https://", "cannot be read"),
            ("slack=https://host:SECRET/", "cannot be read"),
            ("slack=https://host/SECRET here", "cannot be read"),
            ("slack=https://host/#SECRET", "cannot be read"),
            ("webhook=https://user:SECRET@host/", "user or a password"),
            ("webhook+hmac=https://host/SECRET", "KEYFILE"),
            ("webhook+hmac=SECRET,https://host/", "correct the path"),
            ("webhook+hmac=/empty,https://host/", "from 1 to"),
            ("pagerduty=SECRET", "integration key"),
            ("pagerduty=SECRET0123456789abcdefABCDEF0123-,http://x", "integration key"),
        ] {
            let error = parse(spec).unwrap_err();
            let text = error.to_string();
            assert!(text.starts_with("--notify 1: ") && text.contains(why), "{spec}: {text}");
            assert!(!text.contains("SECRET"), "{text}");
            assert!(!format!("{error:?}").contains("SECRET"), "{error:?}");
        }
    }

    #[test]
    fn debug_output_and_ids_have_no_secret() {
        let spec = format!("pagerduty={KEY},https://SECRET.example/SECRET");
        let channel = parse(&spec).unwrap();
        let text = format!("{channel:?} {channel}");
        assert!(!text.contains(KEY) && !text.contains("SECRET"), "{text}");
        assert_eq!(channel.id, parse(&format!("on-call:{spec}")).unwrap().id);
        assert_ne!(channel.id, parse(&format!("pagerduty={KEY}")).unwrap().id);
    }

    #[test]
    fn a_file_has_one_specification_on_each_line() {
        let found: Vec<_> = specs("# people\n\n slack=x \n  # more\nwebhook=y").collect();
        assert_eq!(found, [(3, "slack=x"), (5, "webhook=y")]);
    }
}
