//! The status page in a real browser, with a real agent behind it: the page loads, it shows a heal
//! at once or when the user returns to it, it reports an agent that hangs, its keys work, and it
//! scrolls smoothly with 500 targets; and the page of all nodes shows each, and names one that is silent. A message on its console is a failure. Screenshots are in
//! `target/browser/screenshots`.
mod chromium;
mod crowd;
mod devtools;
mod nodes;

use std::{fs, path::Path, process::Command, thread, time::Duration};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use xtask::{process, workspace::Workspace};

use self::{
    crowd::Crowd,
    devtools::{Browser, bytes},
};
use crate::stage::{
    Programs,
    agent::{Agent, Setup},
    stubs::{INCURABLE, StubServices},
};

/// From the agent's log line of a heal to the page that shows it.
const HEAL_SHOWN: Duration = Duration::from_secs(2);
/// From an agent that hangs to the page that reports it, after six seconds without an event.
const SILENCE_SHOWN: Duration = Duration::from_secs(10);
/// Generous: only what hangs takes this long.
const LIMIT: Duration = Duration::from_secs(60);
/// More targets than these are copies, since they only test the page. `cargo xtask bench` measures
/// what 500 cost the agent.
const MOST_REAL: usize = 30;
/// The processor time of the page's thread for one frame, while 500 targets scroll: a screen needs
/// one every 16.7 ms. It is processor time, because frames are late on a machine that is busy with
/// other things.
const FRAME_MS: f64 = 16.0;
/// The same for one event with a quarter of the targets, drawing included: more is noticeable.
const EVENT_MS: f64 = 50.0;

pub(super) fn run(workspace: &Workspace) -> Result<()> {
    let home = workspace.target.join("browser");
    fs::create_dir_all(&home).with_context(|| format!("cannot make {}", home.display()))?;
    let chromium = || chromium::find(&home);
    chromium()?;
    let programs = Programs::as_tested(workspace)?;
    let pictures = home.join("screenshots");
    fs::create_dir_all(&pictures).with_context(|| format!("cannot make {}", pictures.display()))?;
    let scene = |targets: usize, play: &dyn Fn(&mut Stage<'_>) -> Result<()>| {
        process::announce(&format!("status page with {targets} targets"));
        let mut stage = Stage::open(&programs, &chromium()?, targets, &pictures)?;
        play(&mut stage)?;
        let complaints = &stage.browser.complaints;
        ensure!(complaints.is_empty(), "the page complains: {}", complaints.join("\n"));
        Ok(())
    };
    scene(1, &|stage| {
        one_is_healed(stage)?;
        what_happened_unseen_is_shown(stage)?;
        silence_is_told(stage)
    })?;
    scene(30, &|stage| {
        keys_do_what_they_should(stage)?;
        all_nodes_are_shown(stage)
    })?;
    scene(500, &five_hundred_move_smoothly)
}

/// An agent with its targets, and the page that shows them.
struct Stage<'a> {
    browser: Browser,
    agent: Agent,
    services: StubServices,
    pictures: &'a Path,
    targets: usize,
    /// Both are removed with the stage.
    _folders: [tempfile::TempDir; 2],
}

impl<'a> Stage<'a> {
    fn open(
        programs: &Programs,
        chromium: &Command,
        targets: usize,
        pictures: &'a Path,
    ) -> Result<Self> {
        let services = StubServices::start(targets.min(MOST_REAL))?;
        let folders = [tempfile::tempdir()?, tempfile::tempdir()?];
        let setup = Setup {
            urls: services.urls.clone(),
            state_dir: folders[0].path().to_path_buf(),
            arguments: ["--no-kernel", "--verify-window", "6"].map(str::to_owned).to_vec(),
        };
        let agent = Agent::start(programs, &setup, |_| ())?;
        let browser = Browser::start(chromium, folders[1].path())?;
        let mut stage = Self { browser, agent, services, pictures, targets, _folders: folders };
        stage.look("light", [1440, 900])?;
        let url = match targets {
            0..=MOST_REAL => stage.agent.url.clone(),
            _ => Crowd::gather(&stage.agent.url, targets)?.url,
        };
        stage.browser.call("Page.navigate", &json!({ "url": url }))?;
        let all =
            format!("document.querySelector('#states')?.textContent.startsWith('{targets} all')");
        stage.browser.until("the page shows all targets", LIMIT, &all)?;
        Ok(stage)
    }

    /// Sets the size of the window and the colour scheme.
    fn look(&mut self, scheme: &str, [width, height]: [u32; 2]) -> Result<()> {
        let mobile = width < 600;
        let size = json!({
            "width": width, "height": height, "mobile": mobile,
            "deviceScaleFactor": if mobile { 2 } else { 1 },
        });
        self.browser.call("Emulation.setDeviceMetricsOverride", &size)?;
        let media = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        self.browser.call("Emulation.setEmulatedMedia", &media).map(|_| ())
    }

    /// Screenshots in both schemes, on a desktop and on a phone.
    fn pictures(&mut self, name: &str) -> Result<()> {
        for scheme in ["light", "dark"] {
            for (place, size) in [("desk", [1440, 900]), ("phone", [390, 844])] {
                self.look(scheme, size)?;
                // The page redraws after a resize with the next event.
                thread::sleep(Duration::from_millis(700));
                let picture = self.browser.call("Page.captureScreenshot", &json!({}))?;
                let data = picture["data"].as_str().context("no picture")?;
                let file = format!("{:03}-{name}-{place}-{scheme}.png", self.targets);
                fs::write(self.pictures.join(file), bytes(data)?)?;
            }
        }
        self.look("light", [1440, 900])
    }

    /// Processor time of the page's thread so far, in milliseconds.
    fn busy(&mut self) -> Result<f64> {
        let answer = self.browser.call("Performance.getMetrics", &json!({}))?;
        let metrics = answer["metrics"].as_array().context("no metrics of the page")?;
        let task = metrics.iter().find(|metric| metric["name"] == "TaskDuration");
        let seconds = task.and_then(|metric| metric["value"].as_f64());
        Ok(seconds.context("no TaskDuration")? * 1000.0)
    }

    fn is(&mut self, what: &str, expression: &str) -> Result<()> {
        self.browser.until(what, LIMIT, expression).map(|_| ())
    }

    /// Waits until the agent has logged this message this often.
    fn said(&self, message: &str, times: usize) -> Result<()> {
        let mut waited = Duration::ZERO;
        while self.agent.lines().iter().filter(|line| line.message() == message).count() < times {
            ensure!(waited < LIMIT, "the agent does not say {message:?} {times} times");
            thread::sleep(Duration::from_millis(20));
            waited += Duration::from_millis(20);
        }
        Ok(())
    }

    /// Makes the page believe that it is hidden, or visible again.
    fn hide(&mut self, hidden: bool) -> Result<()> {
        let told = format!(
            "Object.defineProperty(document, 'hidden', {{ value: {hidden}, configurable: true }}); \
             document.dispatchEvent(new Event('visibilitychange'))"
        );
        self.browser.evaluate(&told).map(|_| ())
    }
}

/// The text of a state in the first row, and the text of the timeline.
const FIRST_STATE: &str = "document.querySelector('.row .state').textContent";

fn one_is_healed(stage: &mut Stage<'_>) -> Result<()> {
    // The rows come a frame after the counts: the checks below allow for that.
    stage.browser.evaluate("setTimeout(() => { window.late = { come: true }; }, 300); 0")?;
    stage.is("what comes late is waited for", "late.come")?;
    stage.is("the patient is well", &format!("{FIRST_STATE} === 'well'"))?;
    stage.services.set_errors(0, 8);
    stage.said("healing", 1)?;
    let shown = "document.querySelector('#incidents li')?.textContent.includes('soft heal')";
    let took = stage.browser.until("the page shows the heal", HEAL_SHOWN, shown)?;
    println!("    a heal is shown {} ms after the agent tells of it", took.as_millis());
    stage.is("and how it ended", "!!document.querySelector('[data-outcome=healed]')")?;
    stage.is("the patient is well again", &format!("{FIRST_STATE} === 'well'"))?;
    stage.pictures("healed")
}

fn what_happened_unseen_is_shown(stage: &mut Stage<'_>) -> Result<()> {
    let healed = |times: usize| {
        format!("document.querySelectorAll('#incidents [data-outcome=healed]').length === {times}")
    };
    stage.hide(true)?;
    stage.services.set_errors(0, 8);
    // Wait until it may be healed again.
    stage.said("treatment ended", 2)?;
    stage.is("a hidden page does not listen", &healed(1))?;
    stage.hide(false)?;
    stage.is("a page that is visible again shows what was done", &healed(2))?;
    let told = "document.getElementById('news').textContent.endsWith('soft heal, healed')";
    stage.is("and is told of it, and how it ended", told)
}

fn silence_is_told(stage: &mut Stage<'_>) -> Result<()> {
    let says = |word: &str| {
        format!("document.getElementById('connection').textContent.startsWith('{word}')")
    };
    stage.is("the agent answers", &says("live"))?;
    let gone = says("no answer since ");
    let Stage { agent, browser, .. } = stage;
    agent.while_stopped(|| {
        browser.until("the page says that the agent hangs", SILENCE_SHOWN, &gone)
    })?;
    stage.is("and that it is back", &says("live"))
}

fn keys_do_what_they_should(stage: &mut Stage<'_>) -> Result<()> {
    stage.services.set_errors(3, INCURABLE);
    stage.is("it is left to people", &format!("{FIRST_STATE} === 'exhausted'"))?;
    stage.services.set_errors(7, 8);
    stage.is(
        "another is treated",
        "!!document.querySelector('.row .state[data-state=verifying]')",
    )?;
    stage.pictures("need")?;
    // During a remedy the rows change their places.
    stage.is(
        "the others are well",
        "document.getElementById('states').textContent === '30 all1 exhausted29 well'",
    )?;
    stage.browser.evaluate("document.getElementById('list').focus()")?;
    let label = "document.getElementById(document.activeElement.getAttribute('aria-activedescendant'))?.ariaPosInSet";
    stage.browser.press("ArrowDown")?;
    stage.browser.press("ArrowDown")?;
    stage.is("the third is active", &format!("{label} === '3'"))?;
    stage.browser.press("End")?;
    stage.is("the last is active", &format!("{label} === '30'"))?;
    stage.browser.press("Home")?;
    stage.is("the first is active", &format!("{label} === '1'"))?;
    stage.browser.press("Enter")?;
    stage.is("its details are shown", "!document.getElementById('detail').hidden")?;
    stage.is("and have the focus", "document.activeElement.textContent === 'Close'")?;
    stage.is("and reasons", "!!document.querySelector('.reason .share')")?;
    stage.pictures("detail")?;
    let covered = "document.getElementById('patients').inert";
    stage.look("light", [390, 844])?;
    stage.is("on a phone they cover the list", covered)?;
    stage.look("light", [1440, 900])?;
    stage.is("and on a desk not", &format!("!{covered}"))?;
    stage.browser.press("Escape")?;
    stage.is("they are closed", "document.getElementById('detail').hidden")?;
    stage.is("the list has the focus", "document.activeElement.id === 'list'")?;
    stage.browser.press("/")?;
    let last = stage.services.urls[29].clone();
    stage
        .browser
        .call("Input.insertText", &json!({ "text": last.trim_start_matches("http://") }))?;
    stage.is(
        "one fits the filter",
        "[...document.querySelectorAll('.row')].filter((r) => !r.hidden).length === 1",
    )?;
    stage.browser.press("Escape")?;
    stage.is("all are shown", "document.querySelectorAll('.row:not([hidden])').length > 10")?;
    stage.pictures("list")?;
    who_types_is_not_disturbed(stage)
}

/// The page's next event source reports that all targets are gone, and nothing else.
const NOBODY: &str = "window.EventSource = class extends EventSource {
    set onmessage(hear) { hear({ data: JSON.stringify({ at: 1, roster: [], targets: [] }) }); }
}; 0";

fn who_types_is_not_disturbed(stage: &mut Stage<'_>) -> Result<()> {
    stage.browser.press("Enter")?;
    stage.is("details are shown", "!document.getElementById('detail').hidden")?;
    stage.browser.press("/")?;
    stage.is("the filter has the focus", "document.activeElement.id === 'filter'")?;
    stage.browser.evaluate(NOBODY)?;
    stage.hide(true)?;
    stage.hide(false)?;
    stage.is("the patient is gone", "document.getElementById('detail').hidden")?;
    stage.is("and the filter has the focus", "document.activeElement.id === 'filter'")
}

/// Of the target that was left to people before.
fn all_nodes_are_shown(stage: &mut Stage<'_>) -> Result<()> {
    let direct = format!("{}/fleet", stage.agent.url);
    stage.browser.call("Page.navigate", &json!({ "url": direct }))?;
    let says = "document.getElementById('connection')?.textContent.includes('kubectl proxy')";
    stage.is("without the API server, the page says how it is opened", says)?;
    let url = nodes::open(&stage.agent.url)?;
    stage.browser.call("Page.navigate", &json!({ "url": url }))?;
    let cell = |table: &str, row: usize, column: usize| {
        format!(
            "document.getElementById('{table}')?.tBodies[0].rows[{row}]?.cells[{column}].textContent"
        )
    };
    stage.is(
        "both nodes are shown",
        &format!("{} === '{}'", cell("nodes", 1, 0), nodes::NODES[1]),
    )?;
    stage.is("the first has its targets", &format!("{} === '30'", cell("nodes", 0, 2)))?;
    let silent = format!("{} === 'no answer within 2500 ms'", cell("nodes", 1, 3));
    stage.is("the second is silent", &silent)?;
    stage
        .is("the worst target comes first", &format!("{} === 'exhausted'", cell("urgent", 0, 0)))?;
    let total = "document.getElementById('agent').textContent.includes('30 targets on 2 nodes · 1 of the agents need a look')";
    stage.is("and all are counted", total)?;
    let leads = "document.querySelector('#nodes a').pathname.endsWith('/pods/agent-0:9100/proxy/')";
    stage.is("a node leads to its own page", leads)?;
    stage.pictures("fleet")
}

/// Counts the events that the page receives in four seconds.
const EVENTS: &str = "new Promise((done) => {
    let events = 0;
    const source = new EventSource('events');
    source.onmessage = () => { events += 1; };
    setTimeout(() => { source.close(); done(Math.max(1, events)); }, 4000);
})";

/// Scrolls for five seconds while events come, and measures each frame.
const SCROLL: &str = "new Promise((done) => {
    const frames = []; let last = performance.now(); const end = last + 5000; let step = 60;
    const frame = (now) => {
        frames.push(now - last); last = now;
        if (scrollY + innerHeight >= document.body.scrollHeight - 2) step = -60;
        if (scrollY === 0) step = Math.abs(step);
        scrollBy(0, step);
        if (now < end) requestAnimationFrame(frame);
        else done(frames.slice(1).sort((a, b) => a - b));
    };
    requestAnimationFrame(frame);
})";

fn five_hundred_move_smoothly(stage: &mut Stage<'_>) -> Result<()> {
    stage
        .is("all are well", "document.querySelector('#states').textContent.includes('500 well')")?;
    let rows = "document.querySelectorAll('.row').length < 60";
    stage.is("only what can be seen exists", rows)?;
    stage.pictures("list")?;
    let timing = json!({ "timeDomain": "threadTicks" });
    stage.browser.call("Performance.enable", &timing)?;
    let before = stage.busy()?;
    let events = stage.browser.evaluate(EVENTS)?.as_f64().context("no count of events")?;
    let event = (stage.busy()? - before) / events;
    let before = stage.busy()?;
    let frames = stage.browser.evaluate(SCROLL)?;
    let frames: Vec<f64> =
        frames.as_array().into_iter().flatten().filter_map(Value::as_f64).collect();
    ensure!(frames.len() > 20, "only {} frames in 5 s", frames.len());
    let frame = (stage.busy()? - before) / frames.len() as f64;
    let at = |part: f64| frames[((frames.len() - 1) as f64 * part) as usize];
    println!(
        "    {frame:.1} ms of processor time a frame, {event:.1} ms an event; {} frames in 5 s, every \
         {:.1} ms (median), {:.1} ms (p95)",
        frames.len(),
        at(0.5),
        at(0.95)
    );
    ensure!(frame <= FRAME_MS, "a frame takes {frame:.1} ms of processor time: it is not smooth");
    ensure!(event <= EVENT_MS, "an event takes {event:.1} ms of processor time: it is felt");
    rows_that_rest_are_not_measured(stage)
}

/// Scrolls the list until its first row is out of sight, and returns whether it stays there.
const PAST_THE_FIRST: &str = "new Promise((done) => {
    scrollBy(0, document.getElementById('list').getBoundingClientRect().top + 160);
    const look = () => done(document.querySelector('.row').hidden);
    requestAnimationFrame(() => requestAnimationFrame(look));
})";
/// Waits until everything is drawn.
const DRAWN: &str = "new Promise((done) => {
    requestAnimationFrame(() => requestAnimationFrame(() => done(true)));
})";

/// A tall window has more rows than a low one. Charts are measured again after each resize and each
/// change of colours; errors in that are on the console.
fn rows_that_rest_are_not_measured(stage: &mut Stage<'_>) -> Result<()> {
    stage.look("light", [1440, 1500])?;
    stage.is("there are more rows", "document.querySelectorAll('.row').length > 30")?;
    stage.look("light", [1440, 900])?;
    stage.is("the first rests", PAST_THE_FIRST)?;
    stage.look("dark", [1440, 900])?;
    stage.is("they are drawn", DRAWN)
}
