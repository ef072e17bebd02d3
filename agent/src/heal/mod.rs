//! Stage 5: the remedies themselves, one per file, mildest first.
//!
//! By the time one is asked for, the guard has permitted it; what is checked here, once more and
//! last, is that the patient is still the one that was judged.
pub mod soft;
pub mod restart;
