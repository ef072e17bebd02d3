//! Offsets of the kernel fields that the programs read.
//!
//! Every kernel lays its structs out differently, so nothing is assumed: offsets and sizes come
//! from its own BTF, record layouts from tracefs, one address from kallsyms. A field that is
//! missing or of another size disables the signals that need it, and nothing else.
use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read},
    path::Path,
};

use agent_common::{ABSENT, Offsets};

use super::btf::Btf;

/// One field: its path, its required size (0: any), and its position among the offsets.
pub(super) struct Field {
    path: &'static str,
    size: u32,
    place: fn(&mut Offsets) -> &mut u32,
}

macro_rules! fields {
    ($(#[$doc:meta] $name:ident { $($path:literal $size:literal => $place:ident),+ $(,)? })+) => {
        $(
            #[$doc]
            pub(super) const $name: &[Field] =
                &[$(Field { path: $path, size: $size, place: |o| &mut o.$place }),+];
        )+
        const ALL: &[&[Field]] = &[$($name),+];
    };
}

fields! {
    /// From a cgroup to its id.
    CGROUP {
        "cgroup.kn" 8 => cgroup_kn,
        "kernfs_node.id" 8 => kn_id,
    }
    /// From a socket to its cgroup and port.
    SOCKET {
        "sock.sk_cgrp_data.cgroup" 8 => sock_cgroup,
        "sock.__sk_common.skc_state" 1 => sock_state,
        "inet_sock.inet_sport" 2 => inet_sport,
    }
    /// From a task group to its cgroup and the counters of its quota.
    BANDWIDTH {
        "task_group.css.cgroup" 8 => tg_cgroup,
        "task_group.cfs_bandwidth" 0 => tg_bandwidth,
        "cfs_bandwidth.period" 8 => bandwidth_period,
        "cfs_bandwidth.nr_throttled" 4 => bandwidth_nr_throttled,
        "cfs_bandwidth.throttled_time" 8 => bandwidth_throttled_time,
    }
    /// From a run queue to its task group.
    RUNQUEUE {
        "cfs_rq.tg" 8 => cfs_rq_tg,
    }
    /// From a timer to the quota that it refills.
    TIMER {
        "hrtimer.function" 8 => hrtimer_function,
        "cfs_bandwidth.period_timer" 0 => bandwidth_timer,
    }
    /// From a task to its cgroup.
    TASK {
        "task_struct.cgroups" 8 => task_cgroups,
        "css_set.dfl_cgrp" 8 => css_set_dfl,
    }
}

/// The offsets within the kernel's structs; [`ABSENT`] for a field that is missing or unexpected.
pub(super) fn of_structs(btf: &Btf<'_>) -> Offsets {
    let mut offsets = Offsets::NONE;
    for field in ALL.iter().copied().flatten() {
        let found = btf.member(field.path).filter(|m| field.size == 0 || m.size == field.size);
        *(field.place)(&mut offsets) = found.map_or(ABSENT, |member| member.offset);
    }
    offsets
}

/// An error that names the fields among `needed` that this kernel lacks.
pub(super) fn require(offsets: &Offsets, needed: &[&[Field]]) -> Result<(), String> {
    let mut offsets = *offsets;
    let missing: Vec<&str> = needed
        .iter()
        .copied()
        .flatten()
        .filter(|field| *(field.place)(&mut offsets) == ABSENT)
        .map(|field| field.path)
        .collect();
    if missing.is_empty() {
        Ok(())
    } else {
        Err(format!("this kernel's type information has no usable {}", missing.join(", ")))
    }
}

/// The offset of the socket's address in the record of a classic TCP tracepoint.
///
/// # Errors
/// Why it is unknown.
pub(super) fn of_event_socket(event: &str) -> Result<u32, String> {
    let roots = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"];
    let Some(root) = roots.iter().find(|root| Path::new(root).join("events").is_dir()) else {
        return Err(format!("no tracefs at {} (mount it, or run as root)", roots.join(" or ")));
    };
    let path = Path::new(root).join("events/tcp").join(event).join("format");
    let text = read_limited(&path, 64 << 10)
        .map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    pointer_field(&String::from_utf8_lossy(&text), "skaddr")
        .ok_or_else(|| format!("{} has no pointer `skaddr`", path.display()))
}

/// The offset of a pointer in a tracepoint's record, from its `format` file.
fn pointer_field(format: &str, name: &str) -> Option<u32> {
    format.lines().find_map(|line| {
        let mut parts = line.trim().split(';').map(str::trim);
        let declaration = parts.next()?.strip_prefix("field:")?;
        if declaration.rsplit([' ', '*']).next()? != name {
            return None;
        }
        let offset = parts.next()?.strip_prefix("offset:")?.parse().ok()?;
        (parts.next()?.strip_prefix("size:")? == "8").then_some(offset)
    })
}

/// The address of a kernel function.
///
/// # Errors
/// Why it is unknown.
pub(super) fn address_of(symbol: &str) -> Result<u64, String> {
    let file = File::open("/proc/kallsyms")
        .map_err(|error| format!("cannot read /proc/kallsyms: {error}"))?;
    // 64 MiB are several times the largest.
    match find_symbol(BufReader::new(file.take(64 << 20)), symbol) {
        Some(0) => Err("/proc/kallsyms hides addresses: CAP_SYSLOG is missing".into()),
        Some(address) => Ok(address),
        None => Err(format!("/proc/kallsyms has no function {symbol}")),
    }
}

fn find_symbol(mut kallsyms: impl BufRead, symbol: &str) -> Option<u64> {
    let mut line = String::new();
    while kallsyms.read_line(&mut line).ok()? > 0 {
        let mut parts = line.split_ascii_whitespace();
        if let (Some(address), Some(_), Some(name)) = (parts.next(), parts.next(), parts.next())
            && name == symbol
        {
            return u64::from_str_radix(address, 16).ok();
        }
        line.clear();
    }
    None
}

/// The content of a file of at most `limit` bytes.
pub(super) fn read_limited(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    // The size is not known in advance: files of the kernel report none, or a wrong one.
    let mut bytes = Vec::new();
    let length = File::open(path)?.take(limit + 1).read_to_end(&mut bytes)?;
    if length as u64 > limit {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "larger than it can be"));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FORMAT: &str = "name: tcp_send_reset\nID: 1543\nformat:\n\
        \tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;\n\n\
        \tfield:const void * skbaddr;\toffset:8;\tsize:8;\tsigned:0;\n\
        \tfield:const void * skaddr;\toffset:16;\tsize:8;\tsigned:0;\n\
        \tfield:int state;\toffset:24;\tsize:4;\tsigned:1;\n\nprint fmt: \"skaddr=%p\"\n";

    #[test]
    fn the_record_of_a_tracepoint_says_where_its_socket_is() {
        assert_eq!(pointer_field(FORMAT, "skaddr"), Some(16));
        assert_eq!(pointer_field(FORMAT, "state"), None, "no pointer");
        assert_eq!(pointer_field(FORMAT, "addr"), None, "the name is whole");
        assert_eq!(pointer_field("field:;offset:;size:8;", ""), None);
    }

    #[test]
    fn symbols_match_by_their_full_name() {
        let text = "ffffffff81 t sched_cfs_period_timer.cold\nffffffff82 t sched_cfs_period_timer\n\
                    ffffffff83 t other\t[module]\n";
        let find = |name| find_symbol(text.as_bytes(), name);
        assert_eq!(find("sched_cfs_period_timer"), Some(0xff_ffff_ff82));
        assert_eq!(find("other"), Some(0xff_ffff_ff83));
        assert_eq!(find("cfs_period_timer"), None);
    }

    #[test]
    fn missing_fields_are_named() {
        let mut offsets = Offsets::NONE;
        offsets.cgroup_kn = 256;
        let error = require(&offsets, &[CGROUP, TASK]).unwrap_err();
        assert!(
            error.ends_with("kernfs_node.id, task_struct.cgroups, css_set.dfl_cgrp"),
            "{error}"
        );
        offsets.kn_id = 96;
        assert_eq!(require(&offsets, &[CGROUP]), Ok(()));
    }

    #[test]
    fn each_offset_belongs_to_one_field() {
        let mut offsets = Offsets::NONE;
        for (index, field) in ALL.iter().copied().flatten().enumerate() {
            let place = (field.place)(&mut offsets);
            assert_eq!(*place, ABSENT, "{}", field.path);
            *place = u32::try_from(index).unwrap();
        }
    }

    #[test]
    fn a_file_beyond_its_limit_is_an_error() {
        let path = Path::new("/proc/self/status");
        assert!(read_limited(path, 16).is_err());
        assert!(read_limited(path, 1 << 20).is_ok());
    }
}
