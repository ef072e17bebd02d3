//! Mutexes whose holders leave nothing half-done.
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The value, also after a holder panicked: what our mutexes guard is whole after every statement,
/// and the rest of the agent is worth more than the panic's word for it.
pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
