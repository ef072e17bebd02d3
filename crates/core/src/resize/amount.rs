//! CPU and memory, and amounts of them as Kubernetes writes them.
use std::fmt;

use serde::{Deserialize, Serialize};

/// What is resized. Amounts of CPU are millicores, of memory bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Resource {
    /// CPU time, as a quota.
    Cpu,
    /// Memory.
    Memory,
}

/// The longest number that is read, in digits.
const MAX_DIGITS: usize = 18;
const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

impl Resource {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Cpu, Self::Memory];

    /// Its name in Kubernetes, in settings and in metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Memory => "memory",
        }
    }

    /// Its place in an array of two.
    #[must_use]
    pub const fn index(self) -> usize {
        match self {
            Self::Cpu => 0,
            Self::Memory => 1,
        }
    }

    /// The smallest sensible difference: limits are rounded to it.
    pub(super) const fn grain(self) -> u64 {
        match self {
            Self::Cpu => 10,
            Self::Memory => MIB,
        }
    }

    /// Reads a quantity of Kubernetes (`500m`, `1.5`, `128Mi`, `1e9`), rounded up. `None` if it is
    /// none, is negative or too large.
    #[must_use]
    pub fn read(self, text: &str) -> Option<u64> {
        let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let (number, unit) = text.split_at(end);
        let (whole, part) = number.split_once('.').unwrap_or((number, ""));
        let digits = format!("{whole}{part}");
        if digits.is_empty() || digits.len() > MAX_DIGITS || part.contains('.') {
            return None;
        }
        let (times, by) = unit_of(unit)?;
        let per_unit = if self == Self::Cpu { 1000 } else { 1 };
        let amount = digits.parse::<u128>().ok()?.checked_mul(times)?.checked_mul(per_unit)?;
        let parts = 10_u128.checked_pow(u32::try_from(part.len()).ok()?)?.checked_mul(by)?;
        u64::try_from(amount.div_ceil(parts)).ok()
    }

    /// An amount as Kubernetes writes it.
    #[must_use]
    pub fn text(self, amount: u64) -> String {
        let unit = |size: u64, name: &str| {
            amount.is_multiple_of(size).then(|| format!("{}{name}", amount / size))
        };
        match self {
            Self::Cpu => unit(1000, "").unwrap_or_else(|| format!("{amount}m")),
            Self::Memory if amount == 0 => "0".to_owned(),
            Self::Memory => unit(GIB, "Gi")
                .or_else(|| unit(MIB, "Mi"))
                .or_else(|| unit(KIB, "Ki"))
                .unwrap_or_else(|| amount.to_string()),
        }
    }
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A unit as a fraction: multiply by the first, divide by the second.
fn unit_of(unit: &str) -> Option<(u128, u128)> {
    const DECIMAL: [&str; 6] = ["k", "M", "G", "T", "P", "E"];
    const BINARY: [&str; 6] = ["Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
    let power = |names: [&str; 6], base: u128| {
        let at = names.iter().position(|name| *name == unit)?;
        Some((base.pow(u32::try_from(at).ok()? + 1), 1))
    };
    match unit {
        "" => return Some((1, 1)),
        "m" => return Some((1, 1_000)),
        "u" => return Some((1, 1_000_000)),
        "n" => return Some((1, 1_000_000_000)),
        _ => {}
    }
    power(DECIMAL, 1000).or_else(|| power(BINARY, 1024)).or_else(|| {
        let exponent: i32 = unit.strip_prefix(['e', 'E'])?.parse().ok()?;
        let power =
            10_u128.checked_pow(exponent.unsigned_abs()).filter(|_| exponent.abs() <= 18)?;
        Some(if exponent < 0 { (1, power) } else { (power, 1) })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_read_as_kubernetes_reads_them() {
        for (text, millicores) in [
            ("500m", 500),
            ("1", 1000),
            ("1.5", 1500),
            ("0.1", 100),
            (".5", 500),
            ("100n", 1),
            ("1001u", 2),
            ("2k", 2_000_000),
            ("1e1", 10_000),
            ("5E-1", 500),
        ] {
            assert_eq!(Resource::Cpu.read(text), Some(millicores), "{text}");
        }
        for (text, bytes) in [
            ("128Mi", 128 << 20),
            ("1Gi", 1 << 30),
            ("0.5Gi", 1 << 29),
            ("64M", 64_000_000),
            ("1G", 1_000_000_000),
            ("1048576", 1 << 20),
            ("128974848000m", 128_974_848),
            ("129e6", 129_000_000),
        ] {
            assert_eq!(Resource::Memory.read(text), Some(bytes), "{text}");
        }
        for text in
            ["", "m", "-1", "1.2.3", "1 Mi", "1mi", "1e99", "1e", "1000000000000000000000", "x"]
        {
            assert_eq!(Resource::Memory.read(text), None, "{text:?}");
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        for (amount, text) in [(500, "500m"), (2000, "2"), (1250, "1250m")] {
            assert_eq!(Resource::Cpu.text(amount), text);
            assert_eq!(Resource::Cpu.read(text), Some(amount));
        }
        for (amount, text) in
            [(192 << 20, "192Mi"), (2 << 30, "2Gi"), (1536, "1536"), (3 << 10, "3Ki"), (0, "0")]
        {
            assert_eq!(Resource::Memory.text(amount), text);
            assert_eq!(Resource::Memory.read(text), Some(amount));
        }
    }
}
