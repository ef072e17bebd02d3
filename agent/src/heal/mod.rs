//! Stage 5: the restart in place.
//!
//! The guard has already permitted it. The last check here is that the target is still the instance
//! that was judged. `paramedic_app` applies the soft remedy, and `paramedic_kubernetes` an
//! eviction.
pub mod restart;
