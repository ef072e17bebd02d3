//! Tests of the kernel side with real cgroups, sockets and quotas.
//!
//! These tests need the rights to load eBPF programs and to create cgroups, and the compiled object
//! (`cargo xtask build-ebpf`): without them they fail and say so. So they are ignored, and `cargo xtask
//! test` runs them. They leave no cgroup or process behind.
#[cfg(test)]
#[path = "kernel/mod.rs"]
mod kernel;
