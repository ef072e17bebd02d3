//! Attaches programs to the functions of files, once for each file.
use std::{
    collections::{HashMap, HashSet},
    fs::File,
    io,
};

use agent_common::{Key, scope};
use aya::{
    Ebpf,
    maps::MapError,
    programs::{
        ProgramError, UProbe,
        uprobe::{UProbeLink, UProbeScope},
    },
    sys::SyscallError,
};
use paramedic_core::target::Target;
use thiserror::Error;

use super::{Function, Inode, Library, elf, find::own_path};
use crate::{
    Kernel, Mechanism, Probe, Signal, Slot, Status, connections, programs::explain, slots::Change,
};

/// Why what a target writes into TLS cannot be seen.
#[derive(Debug, Error)]
pub enum TlsError {
    /// Its processes cannot be told from others.
    #[error("its cgroup is shared with other processes, whose TLS would count for it")]
    Shared,
    /// Another target of the same cgroup was first.
    #[error("another target of the same cgroup has its TLS")]
    Taken,
    /// Its cgroup2 directory is unknown, or the target is watched no more.
    #[error("it is not watched in the kernel")]
    NotWatched,
    /// This kernel refuses a program.
    #[error("{0}")]
    Refused(String),
    /// The kernel refused to change a map.
    #[error("cannot change the kernel's maps")]
    Map(#[from] MapError),
}

/// The files with programs on them.
#[derive(Debug, Default)]
pub(crate) struct Attachments {
    files: HashMap<Inode, Attachment>,
    /// Whether the programs were loaded.
    loaded: bool,
}

#[derive(Debug)]
#[expect(dead_code, reason = "held for their drop, and for the inode's sake")]
struct Held {
    links: Vec<UProbeLink>,
    file: File,
}

#[derive(Debug)]
struct Attachment {
    #[expect(dead_code, reason = "held for its drop")]
    held: Held,
    users: HashSet<u32>,
}

impl Attachments {
    /// The slot has nothing to do with these files any more.
    pub(crate) fn leave(&mut self, slot: u32) {
        self.files.retain(|_, attachment| {
            attachment.users.remove(&slot);
            !attachment.users.is_empty()
        });
    }
}

impl Kernel {
    /// Counts what the target's processes write into TLS, where [`Kernel::attach_tls`] attaches. The
    /// first target that asks for it makes the kernel load the programs, which blocks.
    ///
    /// # Errors
    /// The target's cgroup is not its own, or another target's; the kernel refuses.
    pub fn watch_tls(&mut self, slot: Slot, target: &Target) -> Result<(), TlsError> {
        let unified = target.cgroups.unified.as_ref().filter(|_| self.slots.is_current(slot));
        let unified = unified.ok_or(TlsError::NotWatched)?;
        if target.cgroups.shared && target.port.is_some() {
            return Err(TlsError::Shared);
        }
        let key = Key::new(unified.id, 0, scope::TLS);
        if self.slots.is_claimed(&key) {
            return Err(TlsError::Taken);
        }
        self.load_tls().map_err(TlsError::Refused)?;
        for change in self.slots.claim(slot, &[key]) {
            self.apply(change)?;
        }
        Ok(())
    }

    /// Attaches programs to the functions of files that the target's processes have mapped. Each
    /// error is of one file, by its name.
    pub fn attach_tls(
        &mut self,
        slot: Slot,
        libraries: Vec<Library>,
    ) -> Vec<(Inode, String, TlsError)> {
        let attach = |library: Library| {
            let (inode, name) = (library.inode, library.name.clone());
            self.attach_library(slot, library).err().map(|error| (inode, name, error))
        };
        libraries.into_iter().filter_map(attach).collect()
    }

    /// What the target writes into TLS is not counted any more.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn unwatch_tls(&mut self, slot: Slot) -> Result<(), TlsError> {
        if !self.slots.is_current(slot) {
            return Ok(());
        }
        let changes = self.slots.give_up(slot, |key| key.scope == scope::TLS);
        let changed =
            changes.into_iter().map(|change| self.apply(change)).fold(Ok(()), Result::and);
        self.tls.leave(slot.index);
        let forgotten = connections::forget(&mut self.maps.tls_connections, slot.index);
        Ok(changed.and(forgotten)?)
    }

    /// The number of files that have programs on them.
    #[must_use]
    pub fn tls_files(&self) -> usize {
        self.tls.files.len()
    }

    fn apply(&mut self, change: Change) -> Result<(), MapError> {
        self.maps.apply(change)
    }

    fn load_tls(&mut self) -> Result<(), String> {
        if !self.tls.loaded {
            load(&mut self.ebpf)?;
            self.tls.loaded = true;
        }
        Ok(())
    }

    fn attach_library(&mut self, slot: Slot, library: Library) -> Result<(), TlsError> {
        if !self.slots.is_current(slot) {
            return Err(TlsError::NotWatched);
        }
        let Library { file, inode, functions, .. } = library;
        if let Some(attachment) = self.tls.files.get_mut(&inode) {
            attachment.users.insert(slot.index);
            return Ok(());
        }
        let mut links = Vec::new();
        for (function, offset) in functions {
            for program in function.programs() {
                let link = link(&mut self.ebpf, program, &file, offset);
                links.push(link.map_err(|error| TlsError::Refused(refusal(&error)))?);
            }
        }
        let (held, users) = (Held { links, file }, HashSet::from([slot.index]));
        self.tls.files.insert(inode, Attachment { held, users });
        Ok(())
    }
}

/// All programs, each once.
fn programs() -> impl Iterator<Item = &'static str> {
    let all = Function::ALL.into_iter().flat_map(Function::programs).copied();
    let unique: HashSet<_> = all.collect();
    unique.into_iter()
}

fn load(ebpf: &mut Ebpf) -> Result<(), String> {
    for name in programs() {
        let program = uprobe(ebpf, name).map_err(|error| explain(&error))?;
        if program.fd().is_err() {
            program.load().map_err(|error| explain(&error))?;
        }
    }
    Ok(())
}

fn uprobe<'e>(ebpf: &'e mut Ebpf, name: &str) -> Result<&'e mut UProbe, ProgramError> {
    let program = ebpf.program_mut(name).ok_or(ProgramError::UnexpectedProgramType)?;
    program.try_into()
}

/// Attaches to a file that is open here, so that no path of another process matters.
fn link(
    ebpf: &mut Ebpf,
    program: &str,
    file: &File,
    offset: u64,
) -> Result<UProbeLink, ProgramError> {
    let program = uprobe(ebpf, program)?;
    let id = program.attach(offset, own_path(file), UProbeScope::AllProcesses)?;
    program.take_link(id)
}

/// An error of [`link`] in one line. Kernels before July 2025 were content with CAP_PERFMON.
fn refusal(error: &ProgramError) -> String {
    let denied = matches!(error, ProgramError::SyscallError(SyscallError { io_error, .. })
        if io_error.kind() == io::ErrorKind::PermissionDenied);
    let hint = if denied { ": probes on user space take CAP_SYS_ADMIN" } else { "" };
    explain(error) + hint
}

/// Whether this kernel permits it: loads the programs, and attaches one for a moment where it never
/// runs, to the first instruction of this program.
pub(crate) fn probe(ebpf: &mut Ebpf, without: &[Mechanism]) -> Probe {
    let mechanism = Mechanism::Uprobe;
    let attempt = |ebpf: &mut Ebpf| {
        load(ebpf)?;
        let own = File::open("/proc/self/exe").map_err(|error| error.to_string())?;
        let entry = elf::entry(&own).map_err(|error| error.to_string())?;
        link(ebpf, "ssl_end", &own, entry).map(drop).map_err(|error| refusal(&error))
    };
    let result = match without.contains(&mechanism) {
        true => Err("switched off".to_owned()),
        false => attempt(ebpf),
    };
    let status = match result {
        Ok(()) => Status::Ready,
        Err(reason) => Status::Unavailable { reason },
    };
    Probe { signal: Signal::TlsResponses, mechanism, status, tried: Vec::new() }
}
