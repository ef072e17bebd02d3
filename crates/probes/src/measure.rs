//! The cost of the kernel side by the kernel's own statistics, for benchmarks and metrics.
use std::{
    fs,
    os::fd::{AsFd, AsRawFd, OwnedFd},
    time::Duration,
};

use aya::{
    Ebpf, TestRunOptions,
    maps::Map,
    programs::{CgroupSkb, Program, ProgramError, TestRun},
    sys::{Stats, SyscallError},
};
use thiserror::Error;

use super::Kernel;

/// Why a program cannot be measured.
#[derive(Debug, Error)]
pub enum MeasureError {
    /// There is no such packet program.
    #[error("no packet program {0}: there are http_egress and http_ingress")]
    Unknown(String),
    /// The kernel refused the run.
    #[error("the kernel refused the test run")]
    Program(#[from] ProgramError),
}

/// What the kernel says of one loaded program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProgramCost {
    /// Its name.
    pub name: String,
    /// Instructions that the verifier looked at; `None` before kernel 5.16.
    pub verified: Option<u32>,
    /// Runs while they were counted: see [`count_runs`].
    pub runs: u64,
    /// Time that those runs took.
    pub time: Duration,
}

/// Makes the kernel count and time the runs of all programs on this machine until the result is
/// dropped, which makes each run a little slower.
///
/// # Errors
/// The kernel refuses.
pub fn count_runs() -> Result<OwnedFd, SyscallError> {
    aya::sys::enable_stats(Stats::RunTime)
}

impl Kernel {
    /// What each loaded program cost so far.
    #[must_use]
    pub fn costs(&self) -> Vec<ProgramCost> {
        let cost = |(name, program): (&str, &Program)| {
            let info = program.info().ok()?;
            Some(ProgramCost {
                name: name.to_owned(),
                verified: info.verified_instruction_count(),
                runs: info.run_count(),
                time: info.run_time(),
            })
        };
        self.ebpf.programs().filter_map(cost).collect()
    }

    /// Runs a packet program `repeat` times on one packet (an Ethernet frame) and returns the mean
    /// time of a run. The packet is not sent; it is counted if its socket's cgroup, that of the
    /// caller, is watched.
    ///
    /// # Errors
    /// The program is unknown or not loaded, or the kernel refuses the run.
    pub fn measure(
        &mut self,
        program: &str,
        packet: &[u8],
        repeat: u32,
    ) -> Result<Duration, MeasureError> {
        let found = self.ebpf.program(program);
        let found = found.ok_or_else(|| MeasureError::Unknown(program.to_owned()))?;
        let found: &CgroupSkb =
            found.try_into().map_err(|_| MeasureError::Unknown(program.to_owned()))?;
        let mut options = TestRunOptions::new();
        options.data_in = Some(packet);
        options.repeat = repeat;
        Ok(found.test_run(options)?.duration)
    }
}

/// Kernel memory of all maps in bytes; maps of unknown kinds count as zero.
pub(super) fn map_bytes(ebpf: &Ebpf) -> u64 {
    ebpf.maps().filter_map(|(_, map)| bytes_of(map)).sum()
}

fn bytes_of(map: &Map) -> Option<u64> {
    let (Map::Array(data)
    | Map::HashMap(data)
    | Map::LruHashMap(data)
    | Map::PerCpuArray(data)
    | Map::RingBuf(data)) = map
    else {
        return None;
    };
    let fd = data.fd().as_fd().as_raw_fd();
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).ok()?;
    info.lines().find_map(|line| line.strip_prefix("memlock:"))?.trim().parse().ok()
}
