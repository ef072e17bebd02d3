//! A service on stage, with its clients and all that it depends on.
use std::{
    net::TcpStream,
    path::{Path, PathBuf},
    process::Child,
};

use anyhow::Result;

use super::{
    clients::{Clients, Load},
    disk::FullDisk,
    loris::Loris,
    plan::{Draw, Planned},
    play::Cast,
    resolver::Resolver,
    service::Place,
    step::tell,
    supervised::Supervised,
    upstream::Upstream,
};
use crate::stage::free_port;

/// What the steps of a fault act on, and what they leave to clean up. Dropped in this order: the
/// service is to end before what it uses.
pub(super) struct Ground {
    pub(super) neighbours: Vec<Neighbour>,
    pub(super) loris: Option<Loris>,
    /// Connections that stay open.
    pub(super) held: Vec<TcpStream>,
    pub(super) disk: Option<FullDisk>,
    pub(super) clients: Clients,
    pub(super) service: Supervised,
    pub(super) upstream: Upstream,
    pub(super) resolver: Option<Resolver>,
    pub(super) folder: PathBuf,
    pub(super) port: u16,
    /// How often the owner has ended the service.
    pub(super) restarts: u32,
    /// Whether it has `/heal`.
    pub(super) heals: bool,
    pub(super) draw: Draw,
    /// The share of its requests that a fault strikes.
    pub(super) share: f64,
}

impl Ground {
    /// Starts the service of an episode and, once it answers, its clients. `number` is one that no
    /// other running service has.
    pub(super) fn prepare(
        cast: &Cast<'_>,
        planned: &Planned,
        number: usize,
        folder: &Path,
    ) -> Result<Self> {
        let upstream = Upstream::start()?;
        let place = Place::new(cast.kit, folder, free_port()?, upstream.port);
        let share = planned.share();
        if let Some(always) = planned.always {
            tell(folder, always, share)?;
        }
        let what = planned.service;
        let command = what.command(&place)?;
        // The variable tells the app whether to have it.
        let heals = command.get_envs().any(|(name, value)| name == "HEAL" && value.is_some());
        let service = Supervised::start(number, &command, &folder.join("log"))?;
        what.wait_until_up(place.port, &service, cast.interrupt)?;
        let draw = planned.draw;
        let rpc = matches!(what.load, Load::Rpc).then(|| place.rpc(draw.per_second)).transpose()?;
        let clients = Clients::come(what.load, place.port, draw, rpc)?;
        Ok(Self {
            neighbours: Vec::new(),
            loris: None,
            held: Vec::new(),
            disk: None,
            clients,
            service,
            upstream,
            resolver: place.resolver.take(),
            folder: folder.to_owned(),
            port: place.port,
            restarts: 0,
            heals,
            draw,
            share,
        })
    }

    /// The address that the agent watches.
    pub(super) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
}

/// A process without end; killed when dropped.
pub(super) struct Neighbour(pub(super) Child);

impl Drop for Neighbour {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
