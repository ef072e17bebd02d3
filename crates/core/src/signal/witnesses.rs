//! What else the machine shows of a target: read only when a remedy may follow, and told with it.
use std::fmt;

/// Facts about a target's processes and sockets. `None`: this kernel or cgroup does not report it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Witnesses {
    /// Connections that wait to be accepted, of all its listening sockets.
    pub accept_queue: Option<u32>,
    /// Established connections with data that it has not read.
    pub unread_connections: Option<u32>,
    /// Established connections whose client does not read what it was sent: its window is closed.
    pub not_reading: Option<u32>,
    /// Threads of all its processes.
    pub threads: Option<u32>,
    /// Its processes that are stopped by a signal (T).
    pub stopped: Option<u32>,
    /// Its processes that wait in the kernel and take no signal (D).
    pub uninterruptible: Option<u32>,
    /// Open file descriptors of the process that is nearest to its limit.
    pub descriptors: Option<Share>,
    /// Tasks (processes and threads) of its cgroup.
    pub tasks: Option<Share>,
    /// Share of the last 10 s in which at least one of its tasks waited for CPU, memory or a disk,
    /// in percent (`/proc/pressure` of its cgroup).
    pub pressure: Pressure,
}

/// A number and its limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// The number.
    pub used: u64,
    /// The limit.
    pub limit: u64,
}

/// Pressure stall information: `some avg10` in percent.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Pressure {
    /// Of the CPU.
    pub cpu: Option<f32>,
    /// Of memory.
    pub memory: Option<f32>,
    /// Of disks.
    pub io: Option<f32>,
}

/// Below these, a witness shows nothing unusual.
const QUEUE: u32 = 10;
const UNREAD: u32 = 5;
const NEARLY: f64 = 0.9;
const STALLED: f32 = 40.0;

impl Pressure {
    /// Whether its tasks wait for a CPU much of the time.
    #[must_use]
    pub fn is_starved(&self) -> bool {
        self.cpu.is_some_and(|share| share >= STALLED)
    }
}

impl Share {
    fn is_nearly_used_up(self) -> bool {
        self.limit > 0 && self.used as f64 >= self.limit as f64 * NEARLY
    }
}

impl Witnesses {
    /// Whether clients that do not read what it sends them hold its threads: several of them, or for
    /// a quarter of its threads, since not every thread serves clients.
    #[must_use]
    pub fn is_held(&self) -> bool {
        let (clients, threads) = (self.not_reading.unwrap_or(0), self.threads.unwrap_or(0));
        clients >= UNREAD || clients > 0 && clients.saturating_mul(4) >= threads
    }

    /// Whether anything is unusual.
    #[must_use]
    pub fn is_unusual(&self) -> bool {
        !self.to_string().is_empty()
    }
}

/// What is unusual, in one line; empty if nothing is.
impl fmt::Display for Witnesses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        let mut write = |text: fmt::Arguments<'_>| {
            let result = f.write_fmt(format_args!("{separator}{text}"));
            separator = "; ";
            result
        };
        if let Some(waiting) = self.accept_queue.filter(|waiting| *waiting >= QUEUE) {
            write(format_args!("{waiting} connections wait to be accepted"))?;
        }
        if let Some(unread) = self.unread_connections.filter(|unread| *unread >= UNREAD) {
            write(format_args!("{unread} connections have data that it does not read"))?;
        }
        if let Some(clients) = self.not_reading.filter(|_| self.is_held()) {
            write(format_args!("{clients} clients do not read what it sends them"))?;
        }
        if let Some(stopped) = self.stopped.filter(|stopped| *stopped > 0) {
            write(format_args!("a signal has stopped {stopped} of its processes"))?;
        }
        if let Some(stuck) = self.uninterruptible.filter(|stuck| *stuck > 0) {
            write(format_args!("{stuck} of its processes wait in the kernel"))?;
        }
        if let Some(Share { used, limit }) = self.descriptors.filter(|s| s.is_nearly_used_up()) {
            write(format_args!("it uses {used} of {limit} file descriptors"))?;
        }
        if let Some(Share { used, limit }) = self.tasks.filter(|s| s.is_nearly_used_up()) {
            write(format_args!("it has {used} of {limit} tasks"))?;
        }
        for (what, share) in [
            ("CPU", self.pressure.cpu),
            ("memory", self.pressure.memory),
            ("disks", self.pressure.io),
        ] {
            if let Some(share) = share.filter(|share| *share >= STALLED) {
                write(format_args!("it waited for {what} in {share:.0} % of the last 10 s"))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_clients_as_it_has_threads_for_hold_it() {
        let held = |clients, threads| {
            let (not_reading, threads) = (Some(clients), Some(threads));
            Witnesses { not_reading, threads, ..Witnesses::default() }.is_held()
        };
        assert!(held(1, 1) && held(2, 3) && held(8, 11), "servers of few threads");
        assert!(!held(1, 5), "one lost its network while it downloads");
        assert!(held(5, 200), "no accident");
        assert!(!held(0, 0) && !Witnesses::default().is_held());
    }

    #[test]
    fn only_what_is_unusual_is_written() {
        let usual = Witnesses {
            accept_queue: Some(9),
            unread_connections: Some(4),
            not_reading: Some(4),
            threads: Some(17),
            stopped: Some(0),
            uninterruptible: None,
            descriptors: Some(Share { used: 89, limit: 100 }),
            tasks: Some(Share { used: 5, limit: 0 }),
            pressure: Pressure { cpu: Some(39.0), memory: Some(0.0), io: None },
        };
        assert_eq!(usual.to_string(), "");
        assert!(!usual.is_unusual());
        let unusual = Witnesses {
            accept_queue: Some(129),
            not_reading: Some(5),
            descriptors: Some(Share { used: 1024, limit: 1024 }),
            pressure: Pressure { io: Some(87.4), ..Pressure::default() },
            ..usual
        };
        assert_eq!(
            unusual.to_string(),
            "129 connections wait to be accepted; 5 clients do not read what it sends them; it uses 1024 of 1024 file descriptors; it waited \
             for disks in 87 % of the last 10 s"
        );
    }
}
