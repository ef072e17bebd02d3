//! What the fake does beyond the recordings: the simulated cluster, faults, access and watches,
//! as our clients meet them.
#[cfg(test)]
#[path = "behaviour/mod.rs"]
mod behaviour;
