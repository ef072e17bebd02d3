//! Writes a trace without delaying the event loop.
//!
//! The loop sends lines through a bounded channel and never waits. A thread compresses them,
//! flushes twice a second (so that a crash loses little), starts a new part when one is full, and
//! deletes the oldest parts. Every part starts with the targets, so that it can be read by itself.
use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, BufWriter, Write as _},
    path::Path,
    sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use flate2::{Compression, write::GzEncoder};
use paramedic_core::{
    boot_time::BootTime,
    decide::Action,
    engine::{Event, Index},
    target::Remedy,
    verify::Outcome,
};
use tracing::{error, info, warn};

use super::{
    Place,
    line::{Header, Line, What},
    target_record::TargetRecord,
};

/// Maximum number of queued lines: some seconds of a busy node.
const QUEUE: usize = 4096;
/// Maximum time of recording that a crash may lose.
const FLUSH: Duration = Duration::from_millis(500);
/// A part is full at this share of the limit, so that deleting one leaves most of the past.
const PARTS: u64 = 8;
/// Reserve for what a full part may still grow by: data in the compressor, and the line that filled
/// the part. It keeps the total below the limit.
const HELD_BACK: u64 = 128 * 1024;
const SUFFIX: &str = ".trace.gz";

/// A running recording. Dropping it ends the recording in good order.
#[derive(Debug)]
pub struct Trace {
    lines: Option<SyncSender<Line>>,
    writer: Option<JoinHandle<()>>,
    /// Number of lines lost since the last one that was written.
    missing: u64,
    switches: Option<(bool, bool)>,
    /// Time of the last event that the engine received. What follows from the event has the same
    /// time.
    now: BootTime,
    /// The last recorded verdict of each target.
    said: BTreeMap<Index, Action>,
}

impl Trace {
    /// Starts a recording; `header` is that of its first part.
    ///
    /// # Errors
    /// If the directory cannot be created, or the first part cannot be written.
    pub fn begin(place: Place, header: Header) -> io::Result<Self> {
        fs::create_dir_all(&place.directory)?;
        let writer = Writer::begin(place, header)?;
        info!(directory = %writer.place.directory.display(), "recording");
        let (lines, handed) = sync_channel(QUEUE);
        let thread = thread::Builder::new().name("trace".to_owned());
        let writer = thread.spawn(move || writer.run(&handed))?;
        Ok(Self::over(lines, Some(writer)))
    }

    /// Records an event that the engine is about to receive.
    pub fn event(&mut self, now: BootTime, hour: u8, event: &Event, switches: (bool, bool)) {
        self.now = now;
        if self.switches != Some(switches) {
            self.switches = Some(switches);
            self.hand(Line(now.as_nanos(), hour, What::Switches(switches.0, switches.1)));
        }
        if let Event::Added(index, _) = event {
            self.said.remove(index);
        }
        if let Some(what) = What::of(event) {
            self.hand(Line(now.as_nanos(), hour, what));
        }
    }

    /// Records a remedy that is applied, or in a dry run would be.
    pub fn did(&mut self, index: Index, remedy: Remedy, confidence: f32) {
        self.note(What::Did(index, remedy, confidence));
    }

    /// Records the model's verdict on the last sample.
    pub fn said(&mut self, index: Index, action: Action) {
        // A verdict that found no room is written at the next sample.
        if self.said.get(&index) != Some(&action) && self.note(What::Said(index, action)) {
            self.said.insert(index, action);
        }
    }

    /// Records the outcome of a remedy.
    pub fn concluded(&mut self, index: Index, remedy: Remedy, outcome: Outcome) {
        self.note(What::Concluded(index, remedy, outcome));
    }

    /// Writes a line about the agent itself; false if it was dropped.
    fn note(&mut self, what: What) -> bool {
        self.hand(Line(self.now.as_nanos(), 0, what))
    }

    /// A recording whose thread is the test.
    #[cfg(test)]
    pub(super) fn for_tests(lines: SyncSender<Line>) -> Self {
        Self::over(lines, None)
    }

    fn over(lines: SyncSender<Line>, writer: Option<JoinHandle<()>>) -> Self {
        Self {
            lines: Some(lines),
            writer,
            missing: 0,
            switches: None,
            now: BootTime::default(),
            said: BTreeMap::new(),
        }
    }

    /// Queues a line; false if it was dropped.
    fn hand(&mut self, line: Line) -> bool {
        let Some(lines) = &self.lines else { return false };
        let (at, hour) = (line.0, line.1);
        if self.missing > 0 && lines.try_send(Line(at, hour, What::Missing(self.missing))).is_ok() {
            warn!(lines = self.missing, "trace lines were lost: the disk is too slow");
            self.missing = 0;
        }
        match lines.try_send(line) {
            Ok(()) => return true,
            Err(TrySendError::Full(_)) => self.missing += 1,
            // The writer has logged why it stopped.
            Err(TrySendError::Disconnected(_)) => self.lines = None,
        }
        false
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        drop(self.lines.take());
        if let Some(writer) = self.writer.take() {
            // It panics only if the standard library's mutexes do.
            let _ = writer.join();
        }
    }
}

/// The state of the thread.
struct Writer {
    place: Place,
    header: Header,
    part: Part,
    /// Time of the last written line, in nanoseconds since boot. Lines wait in a queue, so the time
    /// of a part comes from its lines and not from the clock; otherwise its lines would be older
    /// than the part.
    last: u64,
    /// Start of the run, in nanoseconds since boot and seconds since 1970. The times of later parts
    /// derive from it, because their names must sort by time even if the node's clock is set.
    began: (u64, u64),
    /// What a later part has to start with.
    known: BTreeMap<Index, Box<TargetRecord>>,
    said: BTreeMap<Index, Action>,
    switches: Option<What>,
}

impl Writer {
    fn begin(place: Place, header: Header) -> io::Result<Self> {
        make_room(&place)?;
        let part = Part::begin(&place.directory, &header)?;
        let (last, began) = (header.boot_ns, (header.boot_ns, header.unix_s));
        let (known, said, switches) = (BTreeMap::new(), BTreeMap::new(), None);
        Ok(Self { place, header, part, last, began, known, said, switches })
    }

    fn run(mut self, lines: &Receiver<Line>) {
        if let Err(error) = self.write_all(lines) {
            error!(%error, directory = %self.place.directory.display(), "cannot write the trace; recording stopped");
        }
    }

    fn write_all(&mut self, lines: &Receiver<Line>) -> io::Result<()> {
        let (mut flushed, mut news) = (Instant::now(), false);
        loop {
            match lines.recv_timeout(FLUSH) {
                Ok(line) => {
                    self.remember(&line);
                    self.part.line(&line)?;
                    self.last = line.0;
                    news = true;
                    if self.part.written() >= self.place.limit / PARTS {
                        self.next_part()?;
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return self.part.end(self.last),
            }
            if news && flushed.elapsed() >= FLUSH {
                (flushed, news) = (Instant::now(), false);
                self.part.flush()?;
            }
        }
    }

    fn remember(&mut self, line: &Line) {
        match &line.2 {
            What::Added(index, who) => {
                self.known.insert(*index, who.clone());
                self.said.remove(index);
            }
            What::Changed(index, who) => {
                self.known.insert(*index, who.clone());
            }
            What::Removed(index) => {
                self.known.remove(index);
                self.said.remove(index);
            }
            What::Said(index, action) => {
                self.said.insert(*index, *action);
            }
            What::Switches(..) => self.switches = Some(line.2.clone()),
            _ => {}
        }
    }

    fn next_part(&mut self) -> io::Result<()> {
        let (at, (began, unix_s)) = (self.last, self.began);
        self.part.end(at)?;
        make_room(&self.place)?;
        self.header.part += 1;
        self.header.boot_ns = at;
        self.header.unix_s = unix_s + at.saturating_sub(began) / 1_000_000_000;
        self.part = Part::begin(&self.place.directory, &self.header)?;
        for (index, who) in &self.known {
            self.part.line(&Line(at, 0, What::Known(*index, who.clone())))?;
        }
        for (index, action) in &self.said {
            self.part.line(&Line(at, 0, What::Said(*index, *action)))?;
        }
        self.switches.clone().map_or(Ok(()), |what| self.part.line(&Line(at, 0, what)))
    }
}

/// One file of a trace.
struct Part(GzEncoder<Counted>);

impl Part {
    fn begin(directory: &Path, header: &Header) -> io::Result<Self> {
        // Names sort by time: the oldest is deleted first.
        let Header { unix_s, run, part, .. } = header;
        let run = run.rsplit('/').next().unwrap_or_default();
        let path = directory.join(format!("{unix_s:012}-{run}-{part:06}{SUFFIX}"));
        let file = File::options().write(true).create_new(true).open(&path)?;
        let file = Counted { file: BufWriter::new(file), written: 0 };
        let mut part = Self(GzEncoder::new(file, Compression::default()));
        part.write(header)?;
        part.flush()?;
        Ok(part)
    }

    fn write(&mut self, value: &impl serde::Serialize) -> io::Result<()> {
        serde_json::to_writer(&mut self.0, value)?;
        self.0.write_all(b"\n")
    }

    fn line(&mut self, line: &Line) -> io::Result<()> {
        self.write(line)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }

    /// Bytes so far; up to [`HELD_BACK`] more may follow.
    fn written(&self) -> u64 {
        self.0.get_ref().written
    }

    fn end(&mut self, at: u64) -> io::Result<()> {
        self.line(&Line(at, 0, What::End))?;
        self.0.try_finish()?;
        self.0.get_mut().flush()
    }
}

/// A file that counts its bytes.
struct Counted {
    file: BufWriter<File>,
    written: u64,
}

impl io::Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.written += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Deletes the oldest parts, of this run or earlier ones, until another one fits.
fn make_room(place: &Place) -> io::Result<()> {
    let mut parts = Vec::new();
    for entry in fs::read_dir(&place.directory)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().ends_with(SUFFIX) {
            parts.push((entry.path(), entry.metadata()?.len()));
        }
    }
    parts.sort();
    let room = (place.limit - place.limit / PARTS).saturating_sub(HELD_BACK);
    let mut total: u64 = parts.iter().map(|(_, size)| size).sum();
    for (path, size) in parts {
        if total <= room {
            break;
        }
        fs::remove_file(&path)?;
        total -= size;
    }
    Ok(())
}
