//! Everything that the programs must know of the running kernel, read once at load.
use std::{fmt::Display, path::Path};

use agent_common::{ABSENT, Offsets};

use super::{
    btf::Btf,
    offsets::{address_of, of_event_socket, of_structs, read_limited},
};

/// The BTF tracepoints, and the struct that each must pass first.
pub(super) const TRACEPOINTS: [(&str, &str); 5] = [
    ("tcp_receive_reset", "sock"),
    ("tcp_send_reset", "sock"),
    ("tcp_retransmit_skb", "sock"),
    ("hrtimer_expire_exit", "hrtimer"),
    ("mark_victim", "task_struct"),
];

/// The layout of the running kernel, with errors for what is unknown.
pub(super) struct Layout {
    /// Passed to the programs.
    pub(super) offsets: Offsets,
    /// Passed to the programs: the address of `sched_cfs_period_timer`.
    pub(super) period_timer: Result<u64, String>,
    /// Why a classic TCP tracepoint cannot be used, by name.
    pub(super) events: [(&'static str, Result<(), String>); 3],
    /// Those of [`TRACEPOINTS`] that pass the required struct; or why that is unknown.
    usable: Result<Vec<&'static str>, String>,
}

impl Layout {
    pub(super) fn read() -> Self {
        let (offsets, usable) = match structs_and_tracepoints() {
            Ok((offsets, usable)) => (offsets, Ok(usable)),
            Err(reason) => (Offsets::NONE, Err(reason)),
        };
        let mut layout = Self {
            offsets,
            period_timer: address_of("sched_cfs_period_timer"),
            events: ["tcp_receive_reset", "tcp_send_reset", "tcp_retransmit_skb"]
                .map(|event| (event, Ok(()))),
            usable,
        };
        layout.learn_events();
        layout
    }

    fn learn_events(&mut self) {
        let places = [
            &mut self.offsets.event_receive_reset_sock,
            &mut self.offsets.event_send_reset_sock,
            &mut self.offsets.event_retransmit_sock,
        ];
        for ((event, usable), place) in self.events.iter_mut().zip(places) {
            let found = of_event_socket(event);
            *place = *found.as_ref().unwrap_or(&ABSENT);
            *usable = found.map(|_| ());
        }
    }

    /// Whether a BTF tracepoint exists and passes what the program takes.
    pub(super) fn tracepoint(&self, name: &str) -> Result<(), String> {
        if self.usable.as_ref().map_err(Clone::clone)?.contains(&name) {
            return Ok(());
        }
        let wanted = TRACEPOINTS.iter().find(|(tracepoint, _)| *tracepoint == name);
        let structure = wanted.map_or("required struct", |(_, structure)| structure);
        Err(format!("this kernel has no tracepoint {name} that passes a {structure}"))
    }

    /// Whether a classic TCP tracepoint exists and its record contains the socket.
    pub(super) fn event(&self, name: &str) -> Result<(), String> {
        self.events
            .iter()
            .find(|(event, _)| *event == name)
            .map_or_else(|| Err(format!("unknown event {name}")), |(_, usable)| usable.clone())
    }
}

fn structs_and_tracepoints() -> Result<(Offsets, Vec<&'static str>), String> {
    let path = Path::new("/sys/kernel/btf/vmlinux");
    let unusable = |error: &dyn Display| format!("cannot use {}: {error}", path.display());
    let bytes = read_limited(path, 256 << 20).map_err(|error| unusable(&error))?;
    let types = Btf::parse(&bytes).map_err(|error| unusable(&error))?;
    let usable = TRACEPOINTS
        .into_iter()
        .filter(|(name, structure)| types.tracepoint_argument(name, 0) == Some(structure))
        .map(|(name, _)| name);
    Ok((of_structs(&types), usable.collect()))
}
