//! Stage 5: the restart in place.
//!
//! By the time it is asked for, the guard has permitted it; what is checked here, once more and
//! last, is that the target is still the one that was judged. The soft remedy is `paramedic_app`'s,
//! an eviction `paramedic_kubernetes`'s.
pub mod restart;
