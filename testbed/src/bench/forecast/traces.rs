//! Public traces of requests, fetched once into `target/traces` and checked.
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use jiff::civil::DateTime;
use xtask::{image::sha256, process, workspace::Workspace};

/// The largest has 3 MB.
const DOWNLOAD: Duration = Duration::from_secs(300);
/// Longest gap in a table that is filled with the value before it.
const GAP: i64 = 24 * 60;

/// A public trace at a fixed commit.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) name: &'static str,
    /// Owner, name and commit of a repository on GitHub.
    of: &'static str,
    /// The path in it.
    path: &'static str,
    sha256: &'static str,
    form: Form,
}

/// How a trace is written.
#[derive(Clone, Copy, Debug)]
enum Form {
    /// A CSV of times and counts, of this many minutes each.
    Counts(usize),
    /// A tar archive whose only file has one count per second, between spaces.
    Seconds,
}

/// The mean of each minute, in requests per second.
pub(super) type Rates = Vec<f32>;

/// Files of repositories on GitHub.
const RAW: &str = "https://raw.githubusercontent.com";
/// Requests to a load balancer, and tweets about companies.
const NAB: &str = "numenta/NAB/ea702d75cc2258d9d7dd35ca8e5e2539d71f3140/data";
/// Requests to the servers of NASA in 1995, and the public sample of Twitter's stream in 2021.
const WEB: &str = "reconfigurable-ml-pipeline/web-service-datasets/\
                   7404ad6643602943511e75ab3095fb1ccc990fd1/dataset";
/// Requests to the site of the football World Cup of 1998.
const CUP: &str = "nimamahmoudi/worldcup98-dataset/82460213f0d5a86fa57b6d4b0b5f260e606e713b";

/// All traces.
pub(super) const SOURCES: [Source; 9] = [
    counts(
        "elb",
        5,
        NAB,
        "realAWSCloudwatch/elb_request_count_8c0756.csv",
        "74c26574a01ca9fb89dddb5021e2e13c3a93eb25dc640438a9acb1ceb00f1021",
    ),
    counts(
        "tweets-aapl",
        5,
        NAB,
        "realTweets/Twitter_volume_AAPL.csv",
        "826f5cf404c2890784a7824f7102fd00cb134a4948e12e44ec320d095cbbc217",
    ),
    counts(
        "tweets-amzn",
        5,
        NAB,
        "realTweets/Twitter_volume_AMZN.csv",
        "234f5e63f19a62720dfb7ccfd6ecc8349b94d93b33ef8aafbdb17edda0b654f3",
    ),
    counts(
        "tweets-fb",
        5,
        NAB,
        "realTweets/Twitter_volume_FB.csv",
        "a7096bd646759486bda6796b5600cd33a4590f0842bf274ea7acba001b3ba591",
    ),
    counts(
        "tweets-goog",
        5,
        NAB,
        "realTweets/Twitter_volume_GOOG.csv",
        "3a39cc23d1ff6a0f234b55298d0c46c21d2e94ddb81a0dad9e1e46e3aaa9ec90",
    ),
    counts(
        "tweets-ups",
        5,
        NAB,
        "realTweets/Twitter_volume_UPS.csv",
        "be50f06bbb9d020f37653c8c5cf19af63f77aa0019d8cf10849d91f4af455af4",
    ),
    counts(
        "worldcup",
        1,
        CUP,
        "invocation_count.csv",
        "d05038f98af96f6fab054f90445e02a68f37fd00a79c23f45b9b48e5ec91fb8e",
    ),
    seconds(
        "nasa",
        WEB,
        "nasa/workload.tbz2",
        "7fa62292d993dde1f278eaa039b50860203a86fbc93a8f92150a548191be4ded",
    ),
    seconds(
        "twitter",
        WEB,
        "twitter_trace/workload.tbz2",
        "b13052c83c64d169810fe1cfec35cb6b56c96e17c023156a23c9a067e1ac66bd",
    ),
];

const fn counts(
    name: &'static str,
    minutes: usize,
    of: &'static str,
    path: &'static str,
    sha256: &'static str,
) -> Source {
    Source { name, of, path, sha256, form: Form::Counts(minutes) }
}

const fn seconds(
    name: &'static str,
    of: &'static str,
    path: &'static str,
    sha256: &'static str,
) -> Source {
    Source { name, of, path, sha256, form: Form::Seconds }
}

impl Source {
    /// The trace; fetches it unless it is in the folder already.
    pub(super) fn rates(&self, workspace: &Workspace) -> Result<Rates> {
        let folder = workspace.target.join("traces");
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let file = self.fetched(&folder, RAW)?;
        let text = match self.form {
            Form::Counts(_) => fs::read_to_string(&file).context("cannot read it")?,
            Form::Seconds => {
                process::capture(Command::new("tar").args(["--bzip2", "-xOf"]).arg(&file))?
            }
        };
        let rates = match self.form {
            Form::Counts(minutes) => of_counts(&text, minutes),
            Form::Seconds => of_seconds(&text),
        };
        rates.with_context(|| format!("cannot read the trace {}", file.display()))
    }

    /// The file, with the content that this was written for.
    fn fetched(&self, folder: &Path, from: &str) -> Result<PathBuf> {
        let file = folder.join(format!("{}-{}", self.name, &self.sha256[..8]));
        if fs::read(&file).is_ok_and(|bytes| sha256(&bytes) == self.sha256) {
            return Ok(file);
        }
        let url = format!("{from}/{}/{}", self.of, self.path);
        let part = file.with_extension("part");
        let mut curl = Command::new("curl");
        curl.args(["--fail", "--silent", "--show-error", "--location", "--output"]);
        curl.arg(&part).arg(&url);
        process::run_within(&format!("fetch the trace {}", self.name), DOWNLOAD, &mut curl)
            .with_context(|| format!("without a network, put {url} at {}", file.display()))?;
        let found = sha256(&fs::read(&part)?);
        ensure!(found == self.sha256, "{url} has the SHA-256 {found}, not {}", self.sha256);
        fs::rename(&part, &file).context("cannot name it")?;
        Ok(file)
    }
}

/// Lines of a time and the count of the minutes that begin there. A short gap has the count before
/// it.
fn of_counts(text: &str, minutes: usize) -> Result<Rates> {
    let mut rates: Rates = Vec::new();
    let mut first = None;
    for line in text.lines().skip(1) {
        let (time, count) = line.split_once(',').context("a line without a comma")?;
        let time: DateTime = time.parse().with_context(|| format!("no time: {time:?}"))?;
        let count: f32 = count.parse().with_context(|| format!("no count: {count:?}"))?;
        let since = time.duration_since(*first.get_or_insert(time)).as_mins();
        let gap = since - rates.len() as i64;
        ensure!((0..=GAP).contains(&gap), "{gap} minutes are missing before {time}");
        let before = rates.last().copied().unwrap_or_default();
        rates.resize(since as usize, before);
        rates.extend(std::iter::repeat_n(count / (60 * minutes) as f32, minutes));
    }
    Ok(rates)
}

/// One count for each second.
fn of_seconds(text: &str) -> Result<Rates> {
    let counts = text.split_ascii_whitespace().map(str::parse::<f32>);
    let counts = counts.collect::<Result<Vec<_>, _>>()?;
    Ok(counts.chunks_exact(60).map(|minute| minute.iter().sum::<f32>() / 60.0).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_become_the_rates_of_their_minutes() {
        let text = "timestamp,value\n2014-04-10 00:04:00,600.0\n2014-04-10 00:06:00,240\n\
                    2014-04-10 00:09:00,120\n";
        let rates = of_counts(text, 2).unwrap();
        assert_eq!(rates, [5.0, 5.0, 2.0, 2.0, 2.0, 1.0, 1.0]);
    }

    #[test]
    fn a_table_that_goes_back_or_leaps_is_refused() {
        for second in ["2014-04-10 00:04:00", "2014-04-12 00:00:00", "yesterday"] {
            let text = format!("timestamp,value\n2014-04-10 00:04:00,1\n{second},1\n");
            assert!(of_counts(&text, 1).is_err(), "{second}");
        }
        assert!(of_counts("timestamp,value\n2014-04-10 00:04:00;1\n", 1).is_err());
    }

    #[test]
    fn seconds_become_whole_minutes() {
        let text = "2 ".repeat(119);
        assert_eq!(of_seconds(&text).unwrap(), [2.0]);
        assert!(of_seconds("1 x").is_err());
    }

    #[test]
    fn a_file_is_fetched_once_and_only_with_its_hash() {
        let (origin, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let from = format!("file://{}", origin.path().display());
        fs::create_dir(origin.path().join("of")).unwrap();
        let there = origin.path().join("of/trace");
        fs::write(&there, "abc").unwrap();
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        let source = counts("x", 1, "of", "trace", abc);
        let file = source.fetched(folder.path(), &from).unwrap();
        assert_eq!(fs::read(&file).unwrap(), b"abc");
        fs::write(&there, "another").unwrap();
        assert_eq!(source.fetched(folder.path(), &from).unwrap(), file);
        fs::write(&file, "damaged").unwrap();
        let refused = source.fetched(folder.path(), &from).unwrap_err().to_string();
        assert!(refused.contains("has the SHA-256"), "{refused}");
    }
}
