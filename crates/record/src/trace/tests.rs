//! Traces that are written and read back, and files that no agent wrote.
use std::{fs, io::Write as _, path::Path, sync::mpsc::sync_channel, time::Duration};

use flate2::{Compression, write::GzEncoder};
use paramedic_core::{
    boot_time::BootTime,
    decide::Action,
    engine::{Event, Recovered, Remedied},
    guard::{Gate, Refusal, Symptom, Treatment, Why},
    health::{Health, HealthError, Poll, Says, Transport},
    resize::{Answer, Ceilings, NoResize, Reason, Recalled, Resource, Step},
    signal::{CgroupReading, HostFacts, KernelReading, Polled, ProcessState, Sample, Trigger},
    target::{Remedy, Request, Target},
    verify::Outcome,
};
use tempfile::tempdir;

use super::{testing::header, write::Trace, *};

fn sample(result: Result<Health, HealthError>) -> Box<Sample> {
    let mut kernel = KernelReading { own_responses: [0, 5, 0, 0, 1], ..Default::default() };
    kernel.counters.responses = [1, 2, 3, 4, 5];
    kernel.counters.upstream_5xx = 6;
    kernel.counters.resets_sent = 7;
    kernel.throttling.period_ns = 100_000_000;
    kernel.counters.unavailable = 8;
    kernel.counters.connects_failed = 9;
    kernel.counters.upstream_denied = 4;
    kernel.own_unavailable = 1;
    kernel.counters.in_trailers = 3;
    kernel.own_in_trailers = 2;
    Box::new(Sample {
        at: BootTime::from_nanos(5_000),
        trigger: Trigger::Confirm,
        kernel: Some(kernel),
        poll: Polled::Now(Poll {
            at: BootTime::from_nanos(5_000),
            latency: Duration::from_micros(1234),
            responses: [0, 1, 0, 0, 1],
            unavailable: 0,
            in_trailers: 1,
            hung_up: 0,
            path: "/health".into(),
            result,
        }),
        usage: CgroupReading { cpu_limit: Some(0.3), oom_kills: Some(1), ..Default::default() },
        process: Some(ProcessState::Stopped),
        host: Some(Box::new(HostFacts {
            futile: Some("its disk is full".into()),
            starved: true,
            ..HostFacts::default()
        })),
    })
}

fn health() -> Health {
    Health {
        cpu_usage: Some(12.5),
        memory_usage: None,
        error_count: Some(3),
        uptime: Some(0.1),
        says: Says::Warns,
        ..Health::default()
    }
}

const STEP: Step = Step { resource: Resource::Memory, from: 1 << 27, to: 1 << 28, base: 1 << 27 };

/// One event of every kind that a trace keeps.
fn events() -> Vec<Event> {
    let refusal = Refusal { gate: Gate::WorkloadLock, why: Why::LockedBy("node2".into()) };
    vec![
        Event::Added(0, Box::new(Target::for_tests("a", 1))),
        Event::Changed(0, Box::new(Target::pod_for_tests("b", 2))),
        Event::Sampled(0, sample(Ok(health()))),
        Event::Sampled(0, sample(Ok(Health { says: Says::NotNow, ..health() }))),
        Event::Sampled(0, sample(Ok(Health { says: Says::Ill, ..Health::default() }))),
        Event::Sampled(
            0,
            sample(Ok(Health { says: Says::Ill, is_vague: true, ..Health::default() })),
        ),
        Event::Sampled(0, sample(Err(HealthError::Transport(Transport::Timeout)))),
        Event::Sampled(0, sample(Err(HealthError::NotFound(405)))),
        Event::Woken { index: 0, at: BootTime::from_nanos(9), throttled: true },
        Event::Lost(0),
        Event::Removed(0),
        Event::Ready(0, true),
        Event::NotNow(0, true),
        Event::Approved(0, Request::new(Remedy::Evict, BootTime::from_nanos(7_000_000))),
        Event::Resized(0, Answer::Given { id: Some(3), step: STEP }),
        Event::Resized(0, Answer::Unknown { id: None, step: STEP, why: "timeout".to_owned() }),
        Event::Resized(0, Answer::Withheld(STEP)),
        Event::Resized(
            0,
            Answer::Refused { id: Some(3), no: NoResize::new(Reason::NoRoom, "full") },
        ),
        Event::ResizeRecalled(0, Recalled { id: 3, step: STEP, open: true }),
        Event::Cleared { index: 0, remedy: Remedy::Evict, answer: Ok(()) },
        Event::Cleared {
            index: 0,
            remedy: Remedy::Restart,
            answer: Err((refusal, Duration::from_secs(3))),
        },
        Event::Treated { index: 0, incident: Some(7), result: Remedied::Given },
        Event::Treated {
            index: 0,
            incident: None,
            result: Remedied::Ended(Outcome::Healed, "well".to_owned()),
        },
        Event::Recovered(
            0,
            Recovered {
                incident: 7,
                remedy: Remedy::Soft,
                before: Action::ResetErrors,
                judged: "1@1".to_owned(),
                symptom: Symptom::Silence,
            },
        ),
        Event::Remembered {
            workload: "shop".to_owned(),
            treatment: Treatment {
                remedy: Remedy::Restart,
                symptom: Symptom::Errors,
                outcome: Outcome::NotHealed,
                began: BootTime::from_nanos(1),
                at: BootTime::from_nanos(2),
            },
        },
        Event::Recalled {
            index: 0,
            remedy: Remedy::Soft,
            treated: BootTime::from_nanos(3),
            ended: Some((Outcome::Worse, BootTime::from_nanos(4))),
        },
    ]
}

#[test]
fn every_event_comes_back_as_it_was() {
    for event in events() {
        let what = What::of(&event).unwrap();
        let text = serde_json::to_string(&Line(1, 2, what.clone())).unwrap();
        let Line(1, 2, read) = serde_json::from_str(&text).unwrap() else { panic!("{text}") };
        assert_eq!(read, what, "{text}");
        let told = read.event().unwrap().unwrap();
        assert_eq!(What::of(&told), Some(what), "{text}");
    }
    assert!(What::of(&Event::Tick).is_none());
}

fn record(limit: u64, directory: &Path, rounds: u64) {
    let place = Place { directory: directory.to_owned(), limit };
    let mut trace = Trace::begin(place, header()).unwrap();
    for round in 0..rounds {
        for event in events() {
            trace.event(BootTime::from_nanos(10_000 + round), 3, &event, (false, true));
        }
    }
    trace.said(0, Action::ResetErrors);
    trace.said(0, Action::ResetErrors);
    trace.did(0, Remedy::Soft, 0.9);
    trace.concluded(0, Remedy::Soft, Outcome::Healed);
}

fn parts(directory: &Path) -> Vec<PathBuf> {
    let mut parts: Vec<_> = fs::read_dir(directory).unwrap().map(|e| e.unwrap().path()).collect();
    parts.sort();
    parts
}

fn lines(path: &Path) -> (Vec<Line>, bool) {
    let mut reader = Reader::open(path).unwrap();
    let mut lines = Vec::new();
    while let Some(line) = reader.next_line().unwrap() {
        lines.push(line);
    }
    (lines, reader.is_truncated())
}

#[test]
fn a_recording_is_read_back_whole() {
    let directory = tempdir().unwrap();
    record(1 << 20, directory.path(), 1);
    let parts = parts(directory.path());
    assert_eq!(parts.len(), 1);
    let (lines, truncated) = lines(&parts[0]);
    assert!(!truncated);
    assert_eq!(lines[0], Line(10_000, 3, What::Switches(false, true)));
    let told: Vec<_> = events().iter().filter_map(What::of).collect();
    let read: Vec<_> = lines[1..].iter().map(|line| line.2.clone()).collect();
    assert_eq!(read[..told.len()], told);
    let noted = [
        What::Said(0, Action::ResetErrors),
        What::Did(0, Remedy::Soft, 0.9),
        What::Concluded(0, Remedy::Soft, Outcome::Healed),
        What::End,
    ];
    assert_eq!(read[told.len()..], noted);
}

#[test]
fn a_trace_of_a_killed_agent_is_read_up_to_its_end() {
    let directory = tempdir().unwrap();
    record(1 << 20, directory.path(), 40);
    let path = &parts(directory.path())[0];
    let (whole, bytes) = (lines(path).0.len(), fs::read(path).unwrap());
    for cut in [bytes.len() - 1, bytes.len() - 9, bytes.len() / 2] {
        fs::write(path, &bytes[..cut]).unwrap();
        let (read, truncated) = lines(path);
        assert!(truncated || read.len() == whole, "cut at {cut}");
        assert!(read.len() <= whole);
    }
}

/// Files older than this agent's are deleted first, and the newest always has room.
#[test]
fn the_oldest_parts_make_room() {
    let directory = tempdir().unwrap();
    for (name, size) in [("000000000001-a-000000", 900_000), ("000000000002-a-000000", 400_000)] {
        fs::write(directory.path().join(format!("{name}.trace.gz")), vec![0; size]).unwrap();
    }
    fs::write(directory.path().join("other.txt"), "not ours").unwrap();
    record(1 << 20, directory.path(), 1);
    let names: Vec<_> = parts(directory.path())
        .iter()
        .map(|path| {
            path.file_name().unwrap().to_string_lossy().chars().take(12).collect::<String>()
        })
        .collect();
    let newest = names.iter().filter(|name| name.starts_with("0018")).count();
    assert_eq!(newest, 1, "{names:?}");
    assert!(names.contains(&"000000000002".to_owned()), "{names:?}");
    assert!(!names.contains(&"000000000001".to_owned()), "{names:?}");
    assert!(directory.path().join("other.txt").exists());
}

/// A word that does not compress.
fn noise(dice: &mut fastrand::Rng) -> Event {
    let detail = (0..700).map(|_| dice.alphanumeric()).collect();
    Event::Treated { index: 3, incident: None, result: Remedied::Failed(detail) }
}

#[test]
fn a_full_part_is_followed_by_one_that_can_be_read_alone() {
    const LIMIT: u64 = 1 << 20;
    let directory = tempdir().unwrap();
    let place = Place { directory: directory.path().to_owned(), limit: LIMIT };
    let mut trace = Trace::begin(place, header()).unwrap();
    let found = Event::Added(3, Box::new(Target::for_tests("a", 1)));
    trace.event(BootTime::from_nanos(10_000), 3, &found, (true, true));
    trace.said(3, Action::ResetErrors);
    let mut dice = fastrand::Rng::with_seed(1);
    // More than the queue holds: parts start while older lines wait.
    for at in 10_001..=15_000 {
        trace.event(BootTime::from_nanos(at), 3, &noise(&mut dice), (true, true));
    }
    drop(trace);
    let parts = parts(directory.path());
    let size: u64 = parts.iter().map(|part| fs::metadata(part).unwrap().len()).sum();
    assert!(size <= LIMIT, "{size}");
    assert!(size > LIMIT / 2, "most of the past is kept, {size}");

    let (mut at, mut told, mut missing) = (None, 0, 0);
    for (number, part) in parts.iter().enumerate() {
        let mut reader = Reader::open(part).unwrap();
        assert_eq!(reader.header.run, "boot/1");
        assert!(reader.header.part >= 1, "the first is gone");
        let mut begins = Vec::new();
        while let Some(Line(when, _, what)) = reader.next_line().unwrap() {
            assert!(at.is_none_or(|before| before <= when), "part {number} goes back");
            at = Some(when);
            match what {
                What::Treated(..) => told += 1,
                What::Missing(lines) => missing += lines,
                What::End => {}
                other => begins.push(other),
            }
        }
        assert!(!reader.is_truncated());
        let said = What::Said(3, Action::ResetErrors);
        let [What::Known(3, _), also, What::Switches(true, true)] = &begins[..] else {
            panic!("{begins:?}")
        };
        assert_eq!(*also, said);
        assert!(told > 0, "each holds lines of its own");
    }
    assert_eq!(at, Some(15_000), "{told} lines, {missing} missing");
}

#[test]
fn dropped_lines_are_counted_and_recorded() {
    let (lines, handed) = sync_channel(2);
    let mut trace = Trace::for_tests(lines);
    let lost = |trace: &mut Trace| {
        trace.event(BootTime::from_nanos(1), 0, &Event::Lost(0), (false, true));
    };
    (0..5).for_each(|_| lost(&mut trace));
    assert_eq!(handed.recv().unwrap().2, What::Switches(false, true));
    assert_eq!(handed.recv().unwrap().2, What::Lost(0));
    lost(&mut trace);
    assert_eq!(handed.recv().unwrap().2, What::Missing(4));
    assert_eq!(handed.recv().unwrap().2, What::Lost(0));
}

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut out = GzEncoder::new(Vec::new(), Compression::fast());
    out.write_all(text).unwrap();
    out.finish().unwrap()
}

/// The error of reading these bytes to their end.
fn refused(bytes: &[u8]) -> String {
    let path = Path::new("x");
    let read = || -> Result<(), TraceError> {
        let mut reader = Reader::new(path, bytes)?;
        while let Some(line) = reader.next_line()? {
            line.2.event().map_err(|absurd| reader.wrong(absurd))?;
        }
        Ok(())
    };
    read().unwrap_err().to_string()
}

fn refused_line(line: &str) -> String {
    let head = serde_json::to_string(&header()).unwrap();
    refused(&gzip(format!("{head}\n{line}\n").as_bytes()))
}

#[test]
fn a_file_that_is_not_a_trace_is_refused() {
    let no_trace = |bytes: &[u8], why: &str| {
        let error = refused(bytes);
        assert!(error.starts_with("x is not a Paramedic trace") && error.contains(why), "{error}");
    };
    no_trace(b"", "empty");
    no_trace(b"PK\x03\x04 not gzip at all", "invalid gzip header");
    no_trace(&gzip(b""), "empty");
    no_trace(&gzip(b"{\"log\":1}\n"), "not a header");
    let other = Header { paramedic_trace: 99, ..header() };
    let other = serde_json::to_string(&other).unwrap() + "\n";
    no_trace(&gzip(other.as_bytes()), "version 99");
}

/// Treatments are remembered for one version of a program.
#[test]
fn a_target_keeps_the_version_of_its_program() {
    let mut target = Target::for_tests("a", 1);
    target.version = Some("4f1c8597baaf".to_owned());
    let workload = target.workload();
    let what = What::of(&Event::Added(0, Box::new(target))).unwrap();
    let text = serde_json::to_string(&what).unwrap();
    let read: What = serde_json::from_str(&text).unwrap();
    let Some(Event::Added(0, read)) = read.event().unwrap() else { panic!("{text}") };
    assert_eq!(read.workload(), workload);
}

#[test]
fn a_target_keeps_how_far_its_limits_may_be_raised() {
    let mut target = Target::for_tests("a", 1);
    let ceilings = Ceilings::read("cpu=2x,memory=1.5x").unwrap();
    target.settings.resize = Some(ceilings);
    let what = What::of(&Event::Added(0, Box::new(target))).unwrap();
    let text = serde_json::to_string(&what).unwrap();
    let read: What = serde_json::from_str(&text).unwrap();
    let Some(Event::Added(0, read)) = read.event().unwrap() else { panic!("{text}") };
    assert_eq!(read.settings.resize, Some(ceilings));
    let bad: What = serde_json::from_str(&text.replace("cpu=2x", "cpu=99x")).unwrap();
    assert!(bad.event().is_err());
    let absurd = Answer::Withheld(Step { to: u64::MAX, ..STEP });
    assert!(What::of(&Event::Resized(0, absurd)).unwrap().event().is_err());
}

#[test]
fn a_remembered_treatment_of_version_3_begins_with_its_outcome() {
    let line = r#"{"remembered":["shop","restart","errors","not_healed",1500]}"#;
    let what: What = serde_json::from_str(line).unwrap();
    let Some(Event::Remembered { treatment, .. }) = what.event().unwrap() else { panic!("{line}") };
    assert_eq!((treatment.began, treatment.at), (treatment.at, BootTime::from_nanos(1500)));
}

/// Reads the header of version 1.
#[test]
fn a_header_of_version_1_is_read() {
    let mut old = serde_json::to_value(header()).unwrap();
    old.as_object_mut().unwrap().remove("model");
    old["paramedic_trace"] = 1.into();
    let bytes = gzip(format!("{old}\n").as_bytes());
    let reader = Reader::new(Path::new("x"), bytes.as_slice()).unwrap();
    assert_eq!((reader.header.model.as_deref(), reader.header.boot()), (None, "boot"));
}

#[test]
fn headers_that_no_agent_writes_are_refused() {
    for (header, why) in [
        (Header { tick_ns: u64::MAX, ..header() }, "span"),
        (Header { tick_ns: 0, ..header() }, "span"),
        (Header { verify_window_ns: 3_600_000_000_001, ..header() }, "span"),
        (Header { boot_ns: u64::MAX, ..header() }, "absurdly large"),
    ] {
        let error = refused(&gzip((serde_json::to_string(&header).unwrap() + "\n").as_bytes()));
        assert!(error.starts_with("x, line 1: ") && error.contains(why), "{error}");
    }
}

/// A node that is up for years and always busy is plausible.
#[test]
fn years_of_uptime_are_read_back() {
    let year = 31_536_000_000_000_000;
    let Event::Sampled(_, mut look) = events().swap_remove(2) else { panic!("no look") };
    look.at = BootTime::from_nanos(3 * year);
    look.poll = Polled::LastStands;
    look.usage.cpu_usage_ns = Some(12 * year);
    let what = What::of(&Event::Sampled(0, look)).unwrap();
    let Some(Event::Sampled(0, read)) = what.event().unwrap() else { panic!("no sample") };
    assert!(matches!(read.poll, Polled::LastStands));
}

#[test]
fn lines_that_no_agent_writes_are_refused_by_number() {
    let look = |k: &str, p: &str, l: &str| {
        format!(r#"[2000,1,{{"look":{{"i":0,"t":2000,"w":"tick","k":{k},"p":{p},"l":{l}}}}}]"#)
    };
    let counts = |first: &str| format!("[{first}{}]", ",0".repeat(19));
    let limits = "[1.0,1]";
    for (line, why) in [
        ("garbage".to_owned(), "expected"),
        ("[2000,1]".to_owned(), "invalid length"),
        (r#"[2000,1,{"exploded":3}]"#.to_owned(), "unknown variant"),
        (r#"[2000,24,{"lost":0}]"#.to_owned(), "hour"),
        (r#"[999,1,{"lost":0}]"#.to_owned(), "older than the line before"),
        (r#"[-1,1,{"lost":0}]"#.to_owned(), "invalid value"),
        (r#"[2000,1,{"lost":4096}]"#.to_owned(), "more targets"),
        (r#"[2000,1,{"lost":18446744073709551615}]"#.to_owned(), "more targets"),
        (look(&counts("18446744073709551615"), "null", limits), "absurdly large"),
        (r#"[9223372036854775808,1,{"lost":0}]"#.to_owned(), "absurdly large"),
        (r#"[2000,1,{"woken":[0,18446744073709551615,false]}]"#.to_owned(), "absurdly large"),
        (r#"[2000,1,{"recalled":[0,"soft",18446744073709551615,null]}]"#.to_owned(), "large"),
        (look("[1,2]", "null", limits), "did not match"),
        (look("null", "[99999999999999999,[0,0,0,0,0],\"timeout\"]", limits), "absurdly large"),
        (look("null", "[1,[0,0,0,0,0],[101.0,0.0,0,0.0]]", limits), "out of its range"),
        (look("null", "[1,[0,0,0,0,0],[1e39,0.0,0,0.0]]", limits), "out of its range"),
        (look("null", "[1,[0,0,0,0,0],\"bored\"]", limits), "did not match"),
        (look("null", "null", "[-1.0,1]"), "out of its range"),
        (" ".repeat(70_000), "longer than 64 KiB"),
    ] {
        let error = refused_line(&line);
        let line = &line[..line.len().min(80)];
        assert!(error.starts_with("x, line 2: ") && error.contains(why), "{line}: {error}");
    }
}

#[test]
fn damage_is_distinguished_from_truncation() {
    let head = serde_json::to_string(&header()).unwrap();
    let many = r#"[2000,1,{"woken":[0,1,false]}]"#.to_owned() + "\n";
    let mut bytes = gzip(format!("{head}\n{}", many.repeat(20_000)).as_bytes());
    let middle = bytes.len() / 2;
    bytes[middle..middle + 40].fill(0xff);
    let error = refused(&bytes);
    assert!(error.contains("damaged after line") || error.contains("line "), "{error}");
}
