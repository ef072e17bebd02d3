//! Which of the capabilities for kernel signals this process holds.
use std::{fmt, fs};

/// A capability for kernel signals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Capability {
    /// Loading programs and creating maps.
    Bpf,
    /// Programs that read kernel memory.
    Perfmon,
    /// Programs that see packets.
    NetAdmin,
    /// Kernel addresses, for throttling through the period timer.
    Syslog,
}

impl Capability {
    /// All capabilities, in the order of the table.
    pub const ALL: [Self; 4] = [Self::Bpf, Self::Perfmon, Self::NetAdmin, Self::Syslog];

    /// Its name, as in `capabilities(7)`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bpf => "CAP_BPF",
            Self::Perfmon => "CAP_PERFMON",
            Self::NetAdmin => "CAP_NET_ADMIN",
            Self::Syslog => "CAP_SYSLOG",
        }
    }

    /// Whether no kernel signal works without it; without the others some do.
    #[must_use]
    pub const fn is_required(self) -> bool {
        !matches!(self, Self::Syslog)
    }

    const fn bit(self) -> u64 {
        1 << match self {
            Self::NetAdmin => 12,
            Self::Syslog => 34,
            Self::Perfmon => 38,
            Self::Bpf => 39,
        }
    }
}

/// Includes all of them but CAP_NET_ADMIN.
const SYS_ADMIN: u64 = 1 << 21;

/// The effective capabilities of this process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capabilities(u64);

impl Capabilities {
    /// Reads them; none if `/proc` does not show them.
    #[must_use]
    pub fn read() -> Self {
        fs::read_to_string("/proc/self/status").map(|text| Self::parse(&text)).unwrap_or_default()
    }

    /// Parses the text of `/proc/self/status`.
    fn parse(status: &str) -> Self {
        let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
        Self(line.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).unwrap_or(0))
    }

    /// Whether the capability, or one that includes it, is held.
    #[must_use]
    pub const fn has(self, capability: Capability) -> bool {
        let implied = !matches!(capability, Capability::NetAdmin) && self.0 & SYS_ADMIN != 0;
        self.0 & capability.bit() != 0 || implied
    }

    /// The required capabilities that are not held.
    #[must_use]
    pub fn missing(self) -> Missing {
        Missing(Capability::ALL.into_iter().filter(|c| c.is_required() && !self.has(*c)).collect())
    }
}

/// Required capabilities that are not held; displayed as a list of their names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing(Vec<Capability>);

impl Missing {
    /// Whether nothing is missing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, capability) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { ", " };
            write!(f, "{separator}{}", capability.name())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(mask: u64) -> Capabilities {
        Capabilities::parse(&format!("Name:\tx\nCapPrm:\t0\nCapEff:\t{mask:016x}\n"))
    }

    #[test]
    fn root_holds_all() {
        let root = held(0x1ff_ffff_ffff);
        assert!(Capability::ALL.into_iter().all(|c| root.has(c)));
        assert!(root.missing().is_empty());
    }

    #[test]
    fn missing_capabilities_are_named() {
        assert_eq!(held(1 << 39).missing().to_string(), "CAP_PERFMON, CAP_NET_ADMIN");
        assert!(held(1 << 39 | 1 << 38 | 1 << 12).missing().is_empty());
    }

    #[test]
    fn sys_admin_implies_all_but_net_admin() {
        assert_eq!(held(1 << 21).missing().to_string(), "CAP_NET_ADMIN");
        assert!(held(1 << 21).has(Capability::Syslog));
    }

    #[test]
    fn an_invalid_status_means_no_capabilities() {
        for text in ["", "CapEff:", "CapEff:\tzz\n", "CapEff:\t1ffffffffffffffffff\n"] {
            assert_eq!(Capabilities::parse(text), Capabilities::default(), "{text:?}");
        }
    }
}
