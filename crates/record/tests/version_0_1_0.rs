//! What an agent of version 0.1.0 has left behind is read: its state directory and a recording. The agent
//! of the fixtures healed one fault of patient-app, and was killed (SIGKILL) while it verified a second
//! remedy, so that all of its journal is still in the log of SQLite.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
use std::{fs, io::Cursor, path::Path};

use paramedic_core::{target::Remedy, verify::Outcome};
use paramedic_record::{BootId, Journal, StateLock, trace::Reader};

/// The boot on which it ran.
const BOOT: &str = "f77099ff-2cf7-42ec-a3fa-fd331089f43b";

/// A copy of its state directory.
fn state() -> tempfile::TempDir {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/0.1.0/state");
    let copy = tempfile::tempdir().unwrap();
    for file in ["journal.sqlite3", "journal.sqlite3-wal"] {
        fs::copy(fixtures.join(file), copy.path().join(file)).unwrap();
    }
    copy
}

fn check(journal: &Journal) {
    let incidents = journal.recent(9).unwrap();
    let told: Vec<_> = incidents.iter().map(|one| (one.id, one.outcome)).collect();
    assert_eq!(told, [(2, None), (1, Some(Outcome::Healed))]);
    for incident in &incidents {
        let intent = &incident.intent;
        assert_eq!((intent.name.as_str(), intent.remedy), ("http://localhost:15000", Remedy::Soft));
        assert_eq!(intent.reasons[0].feature, "error_count");
        assert_eq!((intent.workload.as_str(), &intent.means), ("", &None));
    }
}

#[test]
fn incidents_are_listed_without_an_agent() {
    let state = state();
    check(&Journal::read_only(state.path()).unwrap());
}

#[test]
fn the_next_agent_takes_up_what_its_predecessor_began() {
    let state = state();
    let boot = BootId::parse(BOOT).unwrap();
    let lock = StateLock::acquire(state.path()).unwrap();
    let journal = Journal::open(&lock, boot.clone()).unwrap();
    check(&journal);
    let unfinished = journal.unfinished(&boot).unwrap();
    assert_eq!(unfinished.iter().map(|one| one.id).collect::<Vec<_>>(), [2]);
    drop(journal);
    // Updated once, and read again in the present format.
    check(&Journal::open(&lock, boot).unwrap());
}

#[test]
fn after_a_reboot_an_open_incident_is_closed() {
    let state = state();
    let lock = StateLock::acquire(state.path()).unwrap();
    let later = BootId::parse("6f1c2a3b-0000-4000-8000-123456789abc").unwrap();
    let mut journal = Journal::open(&lock, later).unwrap();
    assert_eq!(journal.close_earlier_boots().unwrap(), 1);
    assert_eq!(journal.recent(1).unwrap()[0].outcome, Some(Outcome::Unverified));
}

#[test]
fn a_recording_is_read_up_to_where_the_agent_was_killed() {
    let bytes = include_bytes!("fixtures/0.1.0/recording.trace.gz");
    let mut reader = Reader::new(Path::new("recording"), Cursor::new(&bytes[..])).unwrap();
    let mut lines = 0;
    while let Ok(Some(_)) = reader.next_line() {
        lines += 1;
    }
    assert!(lines > 20, "{lines}");
}
