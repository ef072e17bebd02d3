//! Readers of one machine: processes, cgroups, sockets and clocks.
//!
//! They report the content of the kernel's files and decide nothing. procfs is read by hand: its
//! root can be moved (tests read recorded trees, the agent the host's), every file has a size
//! limit, and a sample allocates nothing.
pub mod cgroup;
pub mod cgroup_files;
pub mod clock;
pub mod container;
mod diag;
pub mod evidence;
pub mod instances;
pub mod mountinfo;
pub mod pidfd;
pub mod process;
pub mod procfs;
pub mod socket;
pub mod url;
pub mod usage;
pub mod witnesses;

#[cfg(any(test, feature = "testing"))]
pub mod testing;
