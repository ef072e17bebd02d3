//! Plays many episodes, some at once.
use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use anyhow::{Result, bail};

use super::plan::Planned;
use crate::lab::progress::Progress;

/// What became of an episode, and what to tell of it.
pub(super) struct Done<T> {
    pub(super) end: T,
    pub(super) note: String,
    /// It was played by an earlier run.
    pub(super) before: bool,
}

/// Plays some at once, and last, one by one, those that would disturb others. `play` is given the
/// number of the episode in the list. Results are in the order of the list.
pub(super) fn play_all<T: Send>(
    what: &'static str,
    planned: &[Planned],
    at_once: usize,
    takes: Duration,
    play: impl Fn(usize) -> Result<Done<T>> + Sync,
) -> Result<Vec<T>> {
    let takes = takes / u32::try_from(at_once).unwrap_or(1);
    let progress = Mutex::new(Progress::new(what, planned.len(), takes));
    let ends = Mutex::new(Vec::new());
    let one = |number: usize| -> Result<()> {
        let Done { end, note, before } = play(number)?;
        let mut progress = progress.lock().unwrap_or_else(PoisonError::into_inner);
        if before {
            progress.skip();
        } else {
            progress.step(&note);
        }
        ends.lock().unwrap_or_else(PoisonError::into_inner).push((number, end));
        Ok(())
    };
    let (alone, mut together): (Vec<usize>, Vec<usize>) =
        (0..planned.len()).partition(|&number| planned[number].alone);
    // The longest first, so that no long one runs alone at the end.
    together.sort_by_key(|&number| std::cmp::Reverse(planned[number].seconds));
    progress.lock().unwrap_or_else(PoisonError::into_inner).tell("the first services start");
    let next = AtomicUsize::new(0);
    let worker = || {
        while let Some(&number) = together.get(next.fetch_add(1, Ordering::Relaxed)) {
            one(number)?;
        }
        Ok(())
    };
    let workers: Vec<Result<()>> = thread::scope(|scope| {
        let handles: Vec<_> = (0..at_once).map(|_| scope.spawn(worker)).collect();
        let ended = |handle: thread::ScopedJoinHandle<'_, Result<()>>| {
            handle.join().unwrap_or_else(|_| bail!("an episode's thread has panicked"))
        };
        handles.into_iter().map(ended).collect()
    });
    workers.into_iter().collect::<Result<()>>()?;
    alone.into_iter().try_for_each(one)?;
    let mut ends = ends.into_inner().unwrap_or_else(PoisonError::into_inner);
    ends.sort_by_key(|(number, _)| *number);
    Ok(ends.into_iter().map(|(_, end)| end).collect())
}
