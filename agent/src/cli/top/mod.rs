//! `paramedic top`: the targets of a node as a live table in the terminal.
mod feed;
mod screen;
pub(super) mod view;

use std::{
    io::{self, IsTerminal as _},
    process::ExitCode,
    thread,
};

use anyhow::{Context, bail};
use clap::Args;
use ratatui::{
    Terminal,
    backend::Backend,
    crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers},
};
use tokio::sync::mpsc;

use self::{
    feed::Feed,
    screen::draw,
    view::{Key, View},
};
pub(super) use self::{
    feed::{BuildInfo, Target, Update},
    view::Standing,
};

/// Show the targets of a running agent as a live table.
///
/// Keys: arrows select a target, enter shows the reasons for its verdict, / filters by name, q
/// quits. In a cluster, forward the port of a node's agent first: `kubectl port-forward -n
/// paramedic-system paramedic-agent-xxxxx 9100`.
#[derive(Debug, Args)]
pub(super) struct Top {
    /// URL of the agent's status page.
    #[arg(long, default_value = "http://127.0.0.1:9100", value_name = "URL")]
    agent: String,
}

impl Top {
    pub(super) async fn run(self) -> anyhow::Result<ExitCode> {
        let address = feed::address(&self.agent).await?;
        let feed = Feed::open(address).await.with_context(|| {
            format!("no agent answers at {}: is it running? --agent sets the URL", self.agent)
        })?;
        show(feed::follow(feed, address)).await
    }
}

/// Shows what is told, until a key ends it.
pub(super) async fn show(told: mpsc::Receiver<anyhow::Result<Update>>) -> anyhow::Result<ExitCode> {
    if !io::stdout().is_terminal() {
        bail!("top needs a terminal; scripts can read an agent's /api/v1/targets");
    }
    let mut terminal = ratatui::try_init().context("cannot use the terminal")?;
    let result = watch(&mut terminal, keyboard(), told).await;
    ratatui::restore();
    result.map(|()| ExitCode::SUCCESS)
}

async fn watch<B: Backend<Error: Send + Sync + 'static>>(
    terminal: &mut Terminal<B>,
    mut keys: mpsc::Receiver<Option<Key>>,
    mut told: mpsc::Receiver<anyhow::Result<Update>>,
) -> anyhow::Result<()> {
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
            Some(update) = told.recv() => match update {
                Ok(update) => view.take(update),
                // Until it is back, its last data stays on the screen.
                Err(error) => view.lost(format!("{error:#}")),
            },
        }
    }
}

/// Reads keys; `None` only asks for another drawing, as after a resize. Reading blocks, so it has a
/// thread, which ends with the process.
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ratatui::backend::TestBackend;
    use tokio::time::sleep;

    use super::*;
    use crate::cli::top::feed::tests::{EVENT, says};

    #[tokio::test]
    async fn a_hanging_agent_is_reported_and_delays_no_key() {
        let address = says(EVENT).await;
        let told = feed::follow(Feed::open(address).await.unwrap(), address);
        tokio::time::pause();
        let mut terminal = Terminal::new(TestBackend::new(80, 8)).unwrap();
        let (press, keys) = mpsc::channel(1);
        let presses = async {
            // While it reconnects.
            sleep(Duration::from_secs(8)).await;
            press.send(Some(Key::Char('q'))).await.unwrap();
            tokio::time::Instant::now()
        };
        let (ended, pressed) = tokio::join!(watch(&mut terminal, keys, told), presses);
        ended.unwrap();
        assert!(pressed.elapsed() < Duration::from_secs(1));
        let screen = terminal.backend().to_string();
        assert!(screen.contains("no answer from the agent: no event"), "{screen}");
    }
}
