//! Tests on real files, and with real processes where a second process matters.
//!
//! A read-only file system would need privileges, and root ignores permission bits. SQLite's
//! `query_only` replaces the former, as it fails with the same error. /proc, where directories
//! cannot be created, replaces a directory that cannot be created.
use std::{
    env,
    io::{BufRead, BufReader},
    os::unix::{
        fs::{MetadataExt, symlink},
        process::ExitStatusExt,
    },
    process::{Command, Stdio},
    sync::atomic::{AtomicBool, AtomicU32, Ordering},
    thread,
};

use nix::sys::signal::{Signal, raise};
use paramedic_core::{
    decide::{Action, Source},
    target::{ChannelNames, Remedy, TargetId},
};

use super::*;
use crate::{RecordedReason, incident::MAX_REASONS};

/// A temporary directory, removed on drop.
struct Dir(PathBuf);

impl Dir {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = env::temp_dir().join(format!("paramedic-journal-{}-{n}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn file(&self) -> PathBuf {
        self.0.join(JOURNAL_FILE)
    }

    /// A closed journal with one open incident.
    fn with_journal() -> Self {
        let dir = Self::new();
        open(&dir.0).1.intend(&intent("web", 1)).unwrap();
        dir
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

fn boot() -> BootId {
    BootId::parse("6f1c2a3b-0000-4000-8000-123456789abc").unwrap()
}

fn earlier_boot() -> BootId {
    BootId::parse("00000000-0000-4000-8000-000000000000").unwrap()
}

fn at(seconds: u64) -> BootTime {
    BootTime::from_nanos(seconds * 1_000_000_000)
}

fn intent(uid: &str, seconds: u64) -> Intent {
    Intent {
        target: TargetId { uid: uid.to_owned(), instance: "41@7".to_owned() },
        name: format!("default/{uid}"),
        remedy: Remedy::Soft,
        action: Action::ResetErrors,
        confidence: 0.93,
        source: Source::Model,
        reasons: vec![
            RecordedReason { feature: "error_count".to_owned(), value: 8.0, share: 0.41 },
            RecordedReason { feature: "http_5xx_ratio".to_owned(), value: 0.52, share: -0.1 },
        ],
        intended: at(seconds),
        wall_time: 1_767_323_045,
        climbed_from: None,
        workload: "web".to_owned(),
        means: None,
        symptom: paramedic_core::guard::Symptom::Errors,
        health: None,
    }
}

fn open(dir: &Path) -> (StateLock, Journal) {
    let lock = StateLock::acquire(dir).unwrap();
    let journal = Journal::open(&lock, boot()).unwrap();
    (lock, journal)
}

fn open_error(dir: &Path) -> JournalError {
    Journal::open(&StateLock::acquire(dir).unwrap(), boot()).unwrap_err()
}

/// Runs the same test again in a child process, where [`child_dir`] is set.
fn again(test: &str, dir: &Dir) -> Command {
    let mut command = Command::new(env::current_exe().unwrap());
    command
        .args([&format!("journal::tests::{test}"), "--exact", "--nocapture"])
        .env("PARAMEDIC_TEST_DIR", &dir.0);
    command
}

fn child_dir() -> Option<PathBuf> {
    env::var_os("PARAMEDIC_TEST_DIR").map(PathBuf::from)
}

#[test]
fn an_intention_outlives_the_agent_that_had_it() {
    if let Some(dir) = child_dir() {
        let (_lock, mut journal) = open(&dir);
        let done = journal.intend(&intent("done", 1)).unwrap();
        journal.conclude(done, Outcome::Healed, None, at(2)).unwrap();
        journal.intend(&intent("web", 3)).unwrap();
        raise(Signal::SIGKILL).unwrap();
    }
    let dir = Dir::new();
    let status = again("an_intention_outlives_the_agent_that_had_it", &dir).status().unwrap();
    assert_eq!(status.signal(), Some(9));

    let seen = Journal::read_only(&dir.0).unwrap().recent(10).unwrap();
    assert_eq!(seen.len(), 2);
    let (_lock, journal) = open(&dir.0);
    let unfinished = journal.unfinished(&boot()).unwrap();
    assert_eq!(unfinished, seen[..1]);
    assert_eq!(unfinished[0].intent, intent("web", 3));
    assert_eq!((unfinished[0].id, &unfinished[0].boot), (2, &boot()));
    assert_eq!(journal.unfinished(&earlier_boot()).unwrap(), []);
}

#[test]
fn a_directory_has_one_agent_while_it_lives() {
    if let Some(dir) = child_dir() {
        let _journal = open(&dir);
        println!("\nlocked");
        // Until killed, or until the parent has ended and closed its end of the pipe.
        io::stdin().read_line(&mut String::new()).unwrap();
        return;
    }
    let dir = Dir::new();
    let mut child = again("a_directory_has_one_agent_while_it_lives", &dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.map(Result::unwrap).any(|line| line == "locked"));

    let error = StateLock::acquire(&dir.0).unwrap_err();
    let holder = i32::try_from(child.id()).unwrap();
    assert!(matches!(error, JournalError::Locked { pid: Some(pid), .. } if pid == holder));
    assert!(error.to_string().contains("--state-dir"), "{error}");
    assert_eq!(Journal::read_only(&dir.0).unwrap().recent(1).unwrap(), []);

    child.kill().unwrap();
    child.wait().unwrap();
    open(&dir.0);
}

#[test]
fn the_lock_ends_with_its_holder_and_needs_no_signature() {
    let dir = Dir::new();
    let lock = StateLock::acquire(&dir.0).unwrap();
    fs::write(dir.0.join(LOCK_FILE), b"\xffnobody").unwrap();
    assert!(matches!(StateLock::acquire(&dir.0), Err(JournalError::Locked { pid: None, .. })));
    drop(lock);
    StateLock::acquire(&dir.0).unwrap();
}

#[test]
fn created_files_are_private() {
    let dir = Dir::new();
    let state = dir.0.join("a/b");
    let (_lock, mut journal) = open(&state);
    journal.intend(&intent("web", 1)).unwrap();
    assert_eq!(fs::metadata(&state).unwrap().mode() & 0o777, 0o700);
    for file in fs::read_dir(&state).unwrap() {
        let file = file.unwrap();
        assert_eq!(file.metadata().unwrap().mode() & 0o777, 0o600, "{:?}", file.path());
    }
}

#[test]
fn commits_wait_for_the_disk() {
    let dir = Dir::new();
    let (_lock, journal) = open(&dir.0);
    let pragma = |name| journal.db.pragma_query_one::<rusqlite::types::Value>(None, name).unwrap();
    assert_eq!(pragma("journal_mode"), "wal".to_owned().into());
    assert_eq!(pragma("synchronous"), 2.into(), "full");
    assert_eq!(pragma("max_page_count"), 4096.into(), "16 MiB");
}

#[test]
fn the_first_outcome_stands() {
    let dir = Dir::new();
    let (_lock, mut journal) = open(&dir.0);
    let id = journal.intend(&intent("web", 1)).unwrap();
    journal.conclude(id, Outcome::NotHealed, Some(&"é".repeat(600)), at(4)).unwrap();
    for wrong in [id, id + 1, -1] {
        let error = journal.conclude(wrong, Outcome::Healed, None, at(5)).unwrap_err();
        assert!(matches!(error, JournalError::NotOpen { id } if id == wrong));
    }
    let incident = journal.recent(1).unwrap().remove(0);
    assert_eq!(incident.outcome, Some(Outcome::NotHealed));
    assert_eq!(incident.duration(), Some(Duration::from_secs(3)));
    assert_eq!(incident.detail.unwrap().chars().count(), 512);
}

#[test]
fn times_of_an_earlier_boot_are_not_compared() {
    let dir = Dir::new();
    let lock = StateLock::acquire(&dir.0).unwrap();
    let mut earlier = Journal::open(&lock, earlier_boot()).unwrap();
    for seconds in [100, 200] {
        earlier.intend(&intent("web", seconds)).unwrap();
    }
    drop(earlier);

    let mut journal = Journal::open(&lock, boot()).unwrap();
    journal.intend(&intent("web", 7)).unwrap();
    journal.intend(&intent("other", 8)).unwrap();
    journal.conclude(1, Outcome::Healed, None, at(9)).unwrap();
    assert_eq!(journal.close_earlier_boots().unwrap(), 1);
    let all = journal.recent(10).unwrap();
    let ends: Vec<_> = all.iter().map(|i| (i.id, i.outcome, i.concluded)).collect();
    assert_eq!(
        ends,
        [
            (4, None, None),
            (3, None, None),
            (2, Some(Outcome::Unverified), None),
            (1, Some(Outcome::Healed), None)
        ]
    );
    let ids = |boot: BootId, since| -> Vec<i64> {
        journal.for_target("web", &boot, since).unwrap().iter().map(|i| i.id).collect()
    };
    assert_eq!(ids(boot(), at(7)), [3]);
    assert_eq!(ids(boot(), at(8)), [0; 0]);
    assert_eq!(ids(boot(), BootTime::from_nanos(u64::MAX)), [0; 0]);
    assert_eq!(ids(earlier_boot(), at(101)), [2]);
}

#[test]
fn an_invalid_intention_is_refused() {
    let dir = Dir::new();
    let (_lock, mut journal) = open(&dir.0);
    let spoil: [fn(&mut Intent); 9] = [
        |i| i.remedy = Remedy::Observe,
        |i| i.action = Action::NoAction,
        |i| i.confidence = f32::NAN,
        |i| i.confidence = 1.01,
        |i| i.target.uid = String::new(),
        |i| i.target.instance = "x".repeat(1025),
        |i| i.reasons[0].value = f32::INFINITY,
        |i| i.reasons = vec![i.reasons[0].clone(); MAX_REASONS + 1],
        |i| i.intended = BootTime::from_nanos(u64::MAX),
    ];
    for spoil in spoil {
        let mut intent = intent("web", 1);
        spoil(&mut intent);
        assert!(matches!(journal.intend(&intent), Err(JournalError::Invalid { .. })), "{intent:?}");
    }
    assert_eq!(journal.recent(10).unwrap(), []);
}

#[test]
fn the_largest_intention_comes_back() {
    let dir = Dir::new();
    let (_lock, mut journal) = open(&dir.0);
    let mut largest = intent(&"\u{10ffff}".repeat(1024), 1);
    largest.name = "\u{10ffff}".repeat(257);
    let feature = "\u{1}".repeat(64);
    largest.reasons =
        vec![RecordedReason { feature, value: f32::MIN_POSITIVE, share: f32::MIN }; MAX_REASONS];
    journal.intend(&largest).unwrap();
    let read = journal.recent(1).unwrap().remove(0).intent;
    assert_eq!(read.name.chars().count(), 256);
    assert_eq!(read, Intent { name: read.name.clone(), ..largest });
}

#[test]
fn a_damaged_file_is_reported_and_left_unchanged() {
    let page = |n: usize, bytes: &[u8]| {
        let mut bytes = bytes.to_vec();
        bytes[n * 4096..(n + 1) * 4096].fill(0xa5);
        bytes
    };
    type Damage = Box<dyn Fn(&[u8]) -> Vec<u8>>;
    let damages: [(&str, Damage); 6] = [
        ("noise", Box::new(|b| (0..b.len()).map(|i| (i * 7919 % 251) as u8).collect())),
        ("short", Box::new(|_| b"SQLite format 3\0".to_vec())),
        ("truncated", Box::new(|b| b[..b.len() - 4096].to_vec())),
        ("cut within a page", Box::new(|b| b[..5000].to_vec())),
        ("first page", Box::new(move |b| page(0, b))),
        ("a page of rows", Box::new(move |b| page(1, b))),
    ];
    for (name, damage) in damages {
        let dir = Dir::with_journal();
        let damaged = damage(&fs::read(dir.file()).unwrap());
        fs::write(dir.file(), &damaged).unwrap();
        let error = open_error(&dir.0);
        assert!(matches!(error, JournalError::Corrupt { .. }), "{name}: {error}");
        assert!(error.to_string().contains("move it"), "{error}");
        assert_eq!(fs::read(dir.file()).unwrap(), damaged, "{name}");
    }
}

#[test]
fn an_empty_file_is_a_new_journal_unless_its_log_is_not_empty() {
    let dir = Dir::new();
    fs::write(dir.file(), b"").unwrap();
    assert!(matches!(Journal::read_only(&dir.0), Err(JournalError::Missing { .. })));
    open(&dir.0).1.intend(&intent("web", 1)).unwrap();

    fs::write(dir.file(), b"").unwrap();
    let wal = dir.0.join("journal.sqlite3-wal");
    fs::write(&wal, b"the only copy").unwrap();
    assert!(matches!(open_error(&dir.0), JournalError::Corrupt { .. }));
    assert_eq!(fs::read(&wal).unwrap(), b"the only copy");
}

#[test]
fn a_file_that_is_not_a_journal_is_refused() {
    let dir = Dir::new();
    fs::create_dir(dir.file()).unwrap();
    assert!(matches!(open_error(&dir.0), JournalError::Corrupt { .. }));
    fs::remove_dir(dir.file()).unwrap();

    symlink(dir.0.join("elsewhere"), dir.file()).unwrap();
    assert!(matches!(open_error(&dir.0), JournalError::Corrupt { .. }));
    fs::remove_file(dir.file()).unwrap();

    let file = fs::File::create(dir.file()).unwrap();
    file.set_len(MAX_FILE_BYTES + 1).unwrap();
    assert!(matches!(open_error(&dir.0), JournalError::Corrupt { .. }));
    fs::remove_file(dir.file()).unwrap();

    symlink(dir.0.join("elsewhere"), dir.0.join("link")).unwrap();
    for bad in [Path::new("/proc/paramedic"), &dir.0.join("agent.lock/x"), &dir.0.join("link")] {
        let error = StateLock::acquire(bad).unwrap_err();
        assert!(matches!(error, JournalError::StateDir { .. }), "{error}");
        assert!(error.to_string().contains("--state-dir"), "{error}");
    }
    assert!(matches!(Journal::read_only(&dir.0), Err(JournalError::Missing { .. })));
    let nowhere = Journal::read_only(&dir.0.join("nowhere")).unwrap_err();
    assert!(matches!(nowhere, JournalError::Missing { .. }));
}

#[test]
fn a_newer_or_foreign_database_is_left_unchanged() {
    let change = |sql: &str| {
        let dir = Dir::with_journal();
        Connection::open(dir.file()).unwrap().execute_batch(sql).unwrap();
        let before = fs::read(dir.file()).unwrap();
        let error = open_error(&dir.0);
        assert_eq!(Journal::read_only(&dir.0).unwrap_err().name(), error.name());
        assert_eq!(fs::read(dir.file()).unwrap(), before, "{sql}");
        error
    };
    let newer = change("PRAGMA user_version = 6");
    assert!(matches!(newer, JournalError::Newer { found: 6, known: 5, .. }), "{newer}");
    for sql in [
        "PRAGMA user_version = 0",
        "PRAGMA user_version = 1",
        "PRAGMA user_version = 2",
        "PRAGMA user_version = 3",
        "PRAGMA user_version = 4",
        "ALTER TABLE problems DROP COLUMN channels",
        "ALTER TABLE incidents DROP COLUMN means",
        "DROP TABLE resizes",
        "DROP TABLE problems",
        "ALTER TABLE notifications ADD COLUMN url TEXT",
        "ALTER TABLE incidents DROP COLUMN health",
        "PRAGMA user_version = -1",
        "PRAGMA application_id = 7",
        "ALTER TABLE incidents DROP COLUMN detail",
        "CREATE TRIGGER t AFTER INSERT ON incidents BEGIN DELETE FROM incidents; END",
        "DROP INDEX incidents_open",
    ] {
        let error = change(sql);
        assert!(matches!(error, JournalError::Corrupt { .. }), "{sql}: {error}");
    }
}

/// Makes a file of an older version, with one incident of these columns beside the first ones.
fn make_older(dir: &Dir, version: usize, columns: &str, values: &str) {
    let old = Connection::open(dir.file()).unwrap();
    old.execute_batch(&schema::STEPS[..version].concat()).unwrap();
    old.execute_batch(&format!(
        "PRAGMA application_id = {}; PRAGMA user_version = {version}; INSERT INTO incidents \
         (boot, uid, instance, name, rung, action, confidence, source, reasons, intended, \
         wall_time{columns}) VALUES ('{}', 'web', '1@1', 'web', 'soft', 'reset_errors', 0.9, \
         'model', '[]', 5, 6{values})",
        schema::APPLICATION,
        boot().as_str()
    ))
    .unwrap();
}

#[test]
fn a_journal_of_version_1_is_read_and_brought_up_to_date() {
    let dir = Dir::new();
    make_older(&dir, 1, "", "");
    let check = |journal: &Journal| {
        let read = journal.recent(9).unwrap().remove(0);
        assert_eq!((read.id, read.intent.wall_time), (1, 6));
        assert_eq!((read.intent.workload.as_str(), read.intent.health), ("", None));
    };
    check(&Journal::read_only(&dir.0).unwrap());
    let (_lock, mut journal) = open(&dir.0);
    check(&journal);
    let named =
        Intent { workload: "shop".to_owned(), health: Some("well".to_owned()), ..intent("web", 7) };
    let named = Intent { means: Some("http".to_owned()), ..named };
    assert_eq!(journal.intend(&named).unwrap(), 2);
    drop(journal);
    let read = Journal::read_only(&dir.0).unwrap().recent(1).unwrap().remove(0);
    assert_eq!(read.intent, named);
}

#[test]
fn a_journal_of_version_2_is_read_and_gets_the_table_of_notifications() {
    let dir = Dir::new();
    make_older(&dir, 2, ", workload, symptom", ", 'shop', 'silence'");
    let workload = |journal: &Journal| journal.recent(9).unwrap().remove(0).intent.workload;
    let older = Journal::read_only(&dir.0).unwrap();
    assert_eq!(workload(&older), "shop");
    assert_eq!(older.recent_resizes(9).unwrap(), [], "it has no table of resizes");
    let (lock, mut journal) = open(&dir.0);
    assert_eq!(workload(&journal), "shop");
    let channels = ChannelNames::default();
    let change = Change::Opens(Problem { key: "k".into(), uid: "web".into(), since: 6, channels });
    journal.keep_notification(&["slack-1"], 7, "{}", &change).unwrap();
    drop((lock, journal));
    let (_lock, journal) = open(&dir.0);
    assert_eq!(journal.unsent_notifications().unwrap().len(), 1);
    assert_eq!(journal.last_resizes().unwrap(), []);
}

#[test]
fn a_journal_of_version_3_is_read_and_gets_the_column_of_means() {
    let dir = Dir::new();
    make_older(&dir, 3, ", workload, symptom", ", 'shop', 'silence'");
    let means = |journal: &Journal| journal.recent(1).unwrap().remove(0).intent.means;
    assert_eq!(means(&Journal::read_only(&dir.0).unwrap()), None);
    let (lock, mut journal) = open(&dir.0);
    assert_eq!(means(&journal), None);
    let kept = Intent { means: Some("quarantine".to_owned()), ..intent("web", 7) };
    journal.intend(&kept).unwrap();
    drop((lock, journal));
    let (_lock, journal) = open(&dir.0);
    assert_eq!(means(&journal).as_deref(), Some("quarantine"));
}

#[test]
fn a_journal_of_version_4_is_read_and_its_problems_have_no_channels() {
    let dir = Dir::new();
    make_older(&dir, 4, ", means", ", 'http'");
    let old = Connection::open(dir.file()).unwrap();
    old.execute_batch("INSERT INTO problems (key, uid, since) VALUES ('k', 'web', 6)").unwrap();
    drop(old);
    let older = Journal::read_only(&dir.0).unwrap();
    assert_eq!(older.recent(1).unwrap().remove(0).intent.means.as_deref(), Some("http"));
    assert_eq!(older.recent_resizes(9).unwrap(), []);
    let (_lock, journal) = open(&dir.0);
    let [problem] = &journal.problems().unwrap()[..] else { panic!("one problem") };
    assert_eq!((problem.key.as_str(), &problem.channels), ("k", &ChannelNames::default()));
}

#[test]
fn a_hostile_row_is_an_error_that_names_it() {
    let dir = Dir::with_journal();
    let (_lock, mut journal) = open(&dir.0);
    journal.db.execute_batch("UPDATE incidents SET concluded = 7").unwrap();
    let error = journal.recent(1).unwrap_err();
    assert!(error.to_string().contains("conclusion without an outcome"), "{error}");
    journal.conclude(1, Outcome::Healed, None, at(2)).unwrap();
    journal.recent(1).unwrap();

    for (column, value) in [
        ("boot", "'not a boot'"),
        ("uid", "''"),
        ("uid", "cast(x'ff' AS TEXT)"),
        ("instance", "printf('%.*c', 9000000, 'x')"),
        ("name", "printf('%.*c', 257, 'x')"),
        ("rung", "'observe'"),
        ("rung", "'guillotine'"),
        ("symptom", "'hiccups'"),
        ("workload", "printf('%.*c', 1025, 'x')"),
        ("health", "printf('%.*c', 513, 'x')"),
        ("means", "printf('%.*c', 65, 'x')"),
        ("rung", "''"),
        ("action", "'no_action'"),
        ("action", "'Restart'"),
        ("confidence", "1.5"),
        ("confidence", "-1e308"),
        ("confidence", "9e999"),
        ("source", "'oracle'"),
        ("reasons", "''"),
        ("reasons", "'[[[['"),
        ("reasons", "printf('%.*c', 200000, '[')"),
        ("reasons", "'[{\"feature\":\"x\",\"value\":1e999,\"share\":0}]'"),
        ("reasons", "'[{\"feature\":\"x\",\"value\":null,\"share\":0}]'"),
        ("reasons", "'{}'"),
        ("intended", "-1"),
        ("outcome", "'cured'"),
        ("detail", "printf('%.*c', 513, 'x')"),
        ("concluded", "-9223372036854775808"),
    ] {
        journal.db.execute_batch("SAVEPOINT well").unwrap();
        journal.db.execute_batch(&format!("UPDATE incidents SET {column} = {value}")).unwrap();
        let error = journal.recent(1).unwrap_err();
        assert!(matches!(error, JournalError::Corrupt { .. }), "{column} = {value}: {error}");
        assert!(error.to_string().contains("incident 1: "), "{column} = {value}: {error}");
        journal.db.execute_batch("ROLLBACK TO well; RELEASE well").unwrap();
    }
    assert_eq!(journal.recent(1).unwrap().len(), 1);
}

#[test]
fn an_unwritable_journal_is_an_error() {
    let dir = Dir::with_journal();
    let mut reader = Journal::read_only(&dir.0).unwrap();
    assert!(matches!(reader.intend(&intent("x", 1)), Err(JournalError::ReadOnly { .. })));
    reader.boot = Some(boot());
    assert!(matches!(reader.intend(&intent("x", 1)), Err(JournalError::ReadOnly { .. })));

    let (_lock, mut journal) = open(&dir.0);
    journal.db.pragma_update(None, "query_only", true).unwrap();
    assert!(matches!(journal.intend(&intent("x", 1)), Err(JournalError::ReadOnly { .. })));
    let error = journal.conclude(1, Outcome::Healed, None, at(2)).unwrap_err();
    assert!(matches!(error, JournalError::ReadOnly { .. }), "{error}");
    journal.db.pragma_update(None, "query_only", false).unwrap();

    journal.db.busy_timeout(Duration::ZERO).unwrap();
    let other = Connection::open(dir.file()).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    assert!(matches!(journal.intend(&intent("x", 1)), Err(JournalError::Busy { .. })));
    other.execute_batch("ROLLBACK").unwrap();
    journal.intend(&intent("x", 1)).unwrap();
}

#[test]
fn pruning_deletes_the_oldest_but_never_an_open_one() {
    let dir = Dir::new();
    let lock = StateLock::acquire(&dir.0).unwrap();
    let limits = Limits { incidents: 20, ..LIMITS };
    let mut earlier = Journal::open_within(&lock, earlier_boot(), limits).unwrap();
    earlier.intend(&intent("left open by an earlier boot", 1)).unwrap();
    drop(earlier);
    let mut journal = Journal::open_within(&lock, boot(), limits).unwrap();
    let kept = journal.intend(&intent("open", 1)).unwrap();
    for n in 0..100 {
        let id = journal.intend(&intent("web", n)).unwrap();
        journal.conclude(id, Outcome::Healed, None, at(n)).unwrap();
    }
    let ids: Vec<_> = journal.recent(u32::MAX).unwrap().iter().map(|i| i.id).collect();
    assert_eq!(ids, (83..=102).rev().collect::<Vec<_>>());
    let open: Vec<_> = journal.unfinished(&boot()).unwrap().iter().map(|i| i.id).collect();
    assert_eq!(open, [kept]);
    assert_eq!(journal.unfinished(&earlier_boot()).unwrap(), []);
}

#[test]
fn the_file_stays_small_until_open_incidents_fill_it() {
    let dir = Dir::new();
    let lock = StateLock::acquire(&dir.0).unwrap();
    let limits = Limits { bytes: 256 << 10, ..LIMITS };
    let mut journal = Journal::open_within(&lock, boot(), limits).unwrap();
    let detail = "x".repeat(512);
    for n in 0..300 {
        let id = journal.intend(&intent("web", n)).unwrap();
        journal.conclude(id, Outcome::Healed, Some(&detail), at(n)).unwrap();
    }
    let newest = journal.recent(u32::MAX).unwrap();
    assert_eq!(newest[0].id, 300);
    assert!((50..250).contains(&newest.len()), "{}", newest.len());

    let full = loop {
        if let Err(error) = journal.intend(&intent("open", 1)) {
            break error;
        }
    };
    assert!(matches!(full, JournalError::Full { .. }), "{full}");
    assert!(full.to_string().contains("free some space"), "{full}");
    let open = journal.unfinished(&boot()).unwrap();
    assert_eq!(open.len(), journal.recent(u32::MAX).unwrap().len(), "the rest made room");
    for incident in open {
        journal.conclude(incident.id, Outcome::Unverified, None, at(2)).unwrap();
    }
    journal.intend(&intent("web", 3)).unwrap();
    drop(journal);
    assert!(fs::metadata(dir.file()).unwrap().len() <= 256 << 10);
}

#[test]
fn readers_see_whole_incidents_while_the_agent_writes() {
    let dir = Dir::new();
    let (_lock, mut journal) = open(&dir.0);
    let path = dir.0.clone();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let (mut seen, mut rounds) = (0, 0);
            while !done.load(Ordering::Acquire) || rounds == 0 {
                let incidents = Journal::read_only(&path).unwrap().recent(1_000).unwrap();
                assert!(incidents.len() >= seen, "{} after {seen}", incidents.len());
                assert!(incidents.iter().skip(1).all(|i| i.outcome == Some(Outcome::Healed)));
                (seen, rounds) = (incidents.len(), rounds + 1);
            }
        });
        for n in 0..200 {
            let id = journal.intend(&intent("web", n)).unwrap();
            journal.conclude(id, Outcome::Healed, None, at(n)).unwrap();
        }
        done.store(true, Ordering::Release);
        reader.join().unwrap();
    });
    drop(journal);
    assert_eq!(Journal::read_only(&dir.0).unwrap().recent(1_000).unwrap().len(), 200);
}

#[test]
fn a_journal_may_move_between_threads() {
    fn is_send<T: Send>() {}
    is_send::<Journal>();
    is_send::<StateLock>();
    is_send::<JournalError>();
}
