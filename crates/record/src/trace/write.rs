//! Writes a trace beside the loop.
//!
//! The loop hands lines over through a bounded channel and never waits for it. The thread behind it
//! compresses, flushes twice a second (so a crash loses little), begins a new part when one is
//! full, and deletes the oldest parts. Every part tells first who the targets are, so that each can
//! be read by itself.
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
    decide::Action,
    engine::{Event, Index},
    moment::Moment,
    target::Rung,
    verify::Outcome,
};
use tracing::{error, info, warn};

use super::{
    Place,
    line::{Header, Line, What},
    who::Who,
};

/// Lines that may wait for the disk: some seconds of a busy node.
const QUEUE: usize = 4096;
/// How much of the recording a crash may cost.
const FLUSH: Duration = Duration::from_millis(500);
/// A part is full at this share of the limit, so that deleting one leaves most of the past.
const PARTS: u64 = 8;
/// What a full part may still grow by: what the compressor holds back until it is ended, and the
/// line that filled it. Room is kept for it, so that the limit holds.
const HELD_BACK: u64 = 128 * 1024;
const SUFFIX: &str = ".trace.gz";

/// A recording under way. Dropped, it ends in good order.
#[derive(Debug)]
pub struct Trace {
    lines: Option<SyncSender<Line>>,
    writer: Option<JoinHandle<()>>,
    /// Lines lost since the last one that was not.
    missing: u64,
    switches: Option<(bool, bool)>,
    /// When the engine was last told something: what follows from it is dated by it.
    now: Moment,
    /// What was last said of each target.
    said: BTreeMap<Index, Action>,
}

impl Trace {
    /// Begins a recording; `header` is that of its first part.
    ///
    /// # Errors
    /// If the directory cannot be made, or the first part cannot be written.
    pub fn begin(place: Place, header: Header) -> io::Result<Self> {
        fs::create_dir_all(&place.directory)?;
        let writer = Writer::begin(place, header)?;
        info!(directory = %writer.place.directory.display(), "recording");
        let (lines, handed) = sync_channel(QUEUE);
        let thread = thread::Builder::new().name("trace".to_owned());
        let writer = thread.spawn(move || writer.run(&handed))?;
        Ok(Self::over(lines, Some(writer)))
    }

    /// The engine is about to be told this.
    pub fn event(&mut self, now: Moment, hour: u8, event: &Event, switches: (bool, bool)) {
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

    /// A remedy is given, or would be.
    pub fn did(&mut self, index: Index, rung: Rung, confidence: f32) {
        self.note(What::Did(index, rung, confidence));
    }

    /// The model says this of what was just looked at.
    pub fn said(&mut self, index: Index, action: Action) {
        // One that found no room is told at the next look.
        if self.said.get(&index) != Some(&action) && self.note(What::Said(index, action)) {
            self.said.insert(index, action);
        }
    }

    /// A remedy ended.
    pub fn concluded(&mut self, index: Index, rung: Rung, outcome: Outcome) {
        self.note(What::Concluded(index, rung, outcome));
    }

    /// A line about the agent itself; false if it is lost.
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
            now: Moment::default(),
            said: BTreeMap::new(),
        }
    }

    /// False if the line is lost.
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
            // The writer has said why it gave up.
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

/// The thread's side.
struct Writer {
    place: Place,
    header: Header,
    part: Part,
    /// When the line that was written last was told, in nanoseconds since boot. Lines wait in a
    /// queue: what a part says of itself is dated by what stands in it, and not by the clock, or
    /// the lines that follow would be older than their part.
    last: u64,
    /// When the run began, in nanoseconds since boot and seconds since 1970: later parts are dated
    /// by it, since their names have to sort by time even if somebody sets the node's clock.
    began: (u64, u64),
    /// What a later part has to begin with.
    known: BTreeMap<Index, Box<Who>>,
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

/// One file.
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

    /// Bytes so far; some [`HELD_BACK`] are yet to come.
    fn written(&self) -> u64 {
        self.0.get_ref().written
    }

    fn end(&mut self, at: u64) -> io::Result<()> {
        self.line(&Line(at, 0, What::End))?;
        self.0.try_finish()?;
        self.0.get_mut().flush()
    }
}

/// A file that knows how long it is.
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
