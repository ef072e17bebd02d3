//! Readers of one machine: processes, cgroups, sockets and clocks.
//!
//! They tell what the kernel's files say, and judge nothing. procfs is read by hand: its root can be
//! moved (tests read recorded trees, the agent the host's), every file has a size limit, and a look
//! allocates nothing.
pub mod cgroup;
pub mod cgroup_files;
pub mod clock;
pub mod container;
mod diag;
pub mod mountinfo;
pub mod pidfd;
pub mod process;
pub mod procfs;
pub mod socket;
pub mod url;
pub mod usage;

#[cfg(any(test, feature = "testing"))]
pub mod testing;
