//! `paramedic top`: the patients of a node as a live table in the terminal.
mod feed;
mod screen;
mod view;

use std::{
    io::{self, IsTerminal as _},
    process::ExitCode,
    thread,
    time::Duration,
};

use anyhow::{Context, bail};
use clap::Args;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use tokio::{sync::mpsc, time::sleep};

use self::{
    feed::Feed,
    screen::draw,
    view::{Key, View},
};

/// Show the patients of a running agent as a live table.
///
/// Keys: arrows choose a patient, enter shows why it is judged as it is, / filters by name, q ends.
/// In a cluster, forward the port of a node's agent first: `kubectl port-forward -n
/// paramedic-system paramedic-agent-xxxxx 9100`.
#[derive(Debug, Args)]
pub(super) struct Top {
    /// Where the agent serves its status.
    #[arg(long, default_value = "http://127.0.0.1:9100", value_name = "URL")]
    agent: String,
}

/// After the agent went away, it is asked again after this long.
const RETRY: Duration = Duration::from_secs(1);

impl Top {
    pub(super) async fn run(self) -> anyhow::Result<ExitCode> {
        let address = feed::address(&self.agent).await?;
        let mut feed = Feed::open(address).await.with_context(|| {
            format!("no agent answers at {}: is it running? --agent says where", self.agent)
        })?;
        if !io::stdout().is_terminal() {
            bail!("top needs a terminal; for scripts there is {}/api/v1/targets", self.agent);
        }
        let mut terminal = ratatui::try_init().context("the terminal cannot be used")?;
        let result = watch(&mut terminal, &mut feed, address).await;
        ratatui::restore();
        result.map(|()| ExitCode::SUCCESS)
    }
}

async fn watch(
    terminal: &mut ratatui::DefaultTerminal,
    feed: &mut Feed,
    address: std::net::SocketAddr,
) -> anyhow::Result<()> {
    let mut keys = keyboard();
    let mut view = View::default();
    loop {
        terminal.draw(|frame| draw(frame, &view))?;
        tokio::select! {
            key = keys.recv() => match key {
                // The terminal is gone.
                None => return Ok(()),
                Some(Some(key)) if view.ends_with(key) => return Ok(()),
                Some(Some(key)) => view.press(key),
                Some(None) => {}
            },
            update = feed.next() => match update {
                Ok(update) => view.take(update),
                Err(error) => {
                    view.lost(format!("{error:#}"));
                    terminal.draw(|frame| draw(frame, &view))?;
                    sleep(RETRY).await;
                    // Until it is back, its last word stays on the screen.
                    if let Ok(again) = Feed::open(address).await {
                        *feed = again;
                    }
                }
            },
        }
    }
}

/// What is pressed; `None` for what only asks for another drawing, as a resize does. Reading blocks,
/// so it has a thread, which ends with the process.
fn keyboard() -> mpsc::Receiver<Option<Key>> {
    let (send, receive) = mpsc::channel(16);
    thread::spawn(move || {
        while let Ok(event) = event::read() {
            let key = match event {
                Event::Key(key) if key.kind == KeyEventKind::Press => {
                    let control = key.modifiers.contains(KeyModifiers::CONTROL);
                    Some(match key.code {
                        KeyCode::Char('c') if control => Key::Quit,
                        KeyCode::Char(c) => Key::Char(c),
                        KeyCode::Up => Key::Up,
                        KeyCode::Down => Key::Down,
                        KeyCode::Enter => Key::Enter,
                        KeyCode::Esc => Key::Escape,
                        KeyCode::Backspace => Key::Backspace,
                        _ => continue,
                    })
                }
                Event::Resize(..) => None,
                _ => continue,
            };
            if send.blocking_send(key).is_err() {
                return;
            }
        }
    });
    receive
}
