//! Stage 5: what the agent does to processes: the restart in place, and the signal that reloads.
//!
//! The guard has already permitted it. The last check here is that the target is still the instance
//! that was judged. `paramedic_app` sends the soft remedy by HTTP, and `paramedic_kubernetes` asks
//! for an eviction.
pub mod restart;
pub mod signal;
