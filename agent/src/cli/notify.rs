//! `--notify` and `--notify-file`: the channels through which people are told.
use std::{
    collections::HashSet,
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use clap::Args;
use paramedic_notify::{Channel, Secret, SpecError, specs};
use paramedic_startup::Mistakes;

/// Maximum number of channels.
const MOST: usize = 16;
/// Maximum size of the file, in bytes.
const MAX_FILE: u64 = 64 << 10;

/// Options for notifications, shared by the commands that watch.
#[derive(Clone, Debug, Args)]
pub(super) struct Notify {
    /// Tell people what was healed and what was not; repeatable. SPEC is one of
    /// `webhook=URL` (JSON), `webhook+hmac=KEYFILE,URL` (signed with the key in KEYFILE),
    /// `slack=URL` (an incoming webhook), `alertmanager=URL` (such as <http://host:9093>) and
    /// `pagerduty=KEY` or `pagerduty=KEY,URL` (the integration key of a service; URL for another
    /// region). With a name in front, as in `shop:slack=URL`, it is only told of the targets that name
    /// it (paramedic.dev/notify). Other users of the machine can read arguments: give secrets by
    /// --notify-file.
    #[arg(long = "notify", value_name = "SPEC")]
    specs: Vec<Given>,
    /// File with one SPEC of --notify on each line; empty lines and lines with `#` in front are
    /// ignored.
    #[arg(long = "notify-file", value_name = "FILE", env = "PARAMEDIC_NOTIFY_FILE")]
    file: Option<PathBuf>,
}

/// A specification as typed, which may contain a secret.
#[derive(Clone, Debug)]
struct Given(Secret);

impl From<String> for Given {
    fn from(text: String) -> Self {
        Self(text.into())
    }
}

impl Notify {
    /// The channels; reads the files that the options name.
    pub(super) fn channels(&self, mistakes: &mut Mistakes) -> Vec<Channel> {
        let mut channels = Vec::new();
        let mut add = |channel: Result<Channel, SpecError>| match channel {
            Ok(channel) => channels.push(channel),
            Err(error) => mistakes.add(error.to_string()),
        };
        for (number, Given(spec)) in self.specs.iter().enumerate() {
            add(Channel::parse(spec.expose(), &format!("--notify number {}", number + 1)));
        }
        let file = self.file.as_ref().map(|path| (path.display(), read(path)));
        if let Some((path, Ok(text))) = &file {
            for (line, spec) in specs(text) {
                add(Channel::parse(spec, &format!("line {line} of {path}")));
            }
        }
        if let Some((path, Err(error))) = &file {
            mistakes.add(format!("cannot read --notify-file {path}: {error}"));
        }
        let mut ids = HashSet::new();
        for twice in channels.iter().filter(|channel| !ids.insert(&channel.id)) {
            mistakes.add(format!("{}: the same as another one; leave one out", twice.given));
        }
        if channels.len() > MOST {
            mistakes.add(format!("{} channels for notifications, at most {MOST}", channels.len()));
        }
        channels
    }
}

fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(MAX_FILE + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MAX_FILE {
        return Err(io::Error::other(format!("it is larger than {MAX_FILE} bytes")));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn channels(specs: &[&str], file: Option<&Path>) -> Result<Vec<String>, String> {
        let specs = specs.iter().map(|spec| Given::from((*spec).to_owned())).collect();
        let notify = Notify { specs, file: file.map(Path::to_owned) };
        let mut mistakes = Mistakes::default();
        let channels = notify.channels(&mut mistakes);
        mistakes.none().map_err(|wrong| wrong.to_string())?;
        Ok(channels.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn arguments_and_lines_of_the_file_are_channels() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("notify");
        fs::write(&file, "# people\n\nslack=https://hooks.slack.com/x\n").unwrap();
        let found = channels(&["webhook=http://a/"], Some(&file)).unwrap();
        let line = format!("slack (line 3 of {})", file.display());
        assert_eq!(found, ["webhook (--notify number 1)", line.as_str()]);
        assert_eq!(channels(&[], None), Ok(Vec::new()));
    }

    #[test]
    fn all_mistakes_are_named_without_their_secret() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("notify");
        fs::write(&file, "slack=https://a/\npagerduty=SECRET\n").unwrap();
        let specs = ["slack=SECRET", "webhook=http://b/SECRET", "webhook=http://b/SECRET"];
        let error = channels(&specs, Some(&file)).unwrap_err();
        for part in ["--notify number 1: ", "--notify number 3: the same as", "line 2 of "] {
            assert!(error.contains(part), "no {part} in {error}");
        }
        assert!(!error.contains("SECRET"), "{error}");
        let missing = channels(&[], Some(&directory.path().join("none"))).unwrap_err();
        assert!(missing.contains("--notify-file"), "{missing}");
        let many: Vec<_> = (0..17).map(|n| format!("webhook=http://a/{n}")).collect();
        let many: Vec<_> = many.iter().map(String::as_str).collect();
        assert!(channels(&many, None).unwrap_err().contains("at most 16"));
    }

    #[test]
    fn debug_output_has_no_secret() {
        let given = Given::from("slack=SECRET".to_owned());
        assert!(!format!("{given:?}").contains("SECRET"));
    }
}
