//! The kernel's type information, of whatever kernel.
#![no_main]
use libfuzzer_sys::{Corpus, fuzz_target};
use paramedic_probes::btf::Btf;

/// What the agent asks for, and what the seeds have.
const MEMBERS: [&str; 12] = [
    "cgroup.kn",
    "kernfs_node.id",
    "sock.sk_cgrp_data.cgroup",
    "sock.__sk_common.skc_state",
    "cfs_bandwidth.throttled_time",
    "task_group.css.cgroup",
    "outer.a",
    "outer.b",
    "outer.c.x",
    "loop.x",
    "maze.x",
    "a.b.c.d",
];
const TRACEPOINTS: [&str; 5] =
    ["tcp_send_reset", "tcp_retransmit_skb", "mark_victim", "shock", "ring"];

fuzz_target!(|input: &[u8]| -> Corpus {
    let Ok(btf) = Btf::parse(input) else { return Corpus::Keep };
    for path in MEMBERS {
        let found = btf.member(path);
        assert_eq!(found, btf.member(path));
        if let Some(member) = found {
            let (parent, _) = path.rsplit_once('.').unwrap();
            let parent = btf.member(parent);
            assert!(parent.is_some_and(|parent| parent.offset <= member.offset), "{path}");
        }
    }
    for tracepoint in TRACEPOINTS {
        for index in [0, 1, 2, 0xfffe, usize::MAX - 1] {
            if let Some(name) = btf.tracepoint_argument(tracepoint, index) {
                assert!(index < 0xffff && name.len() < input.len());
            }
        }
    }
    Corpus::Keep
});
