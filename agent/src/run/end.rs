//! Waits for the end of a container's first process, which the kernel reports before anything else.
use std::sync::Arc;

use paramedic_core::target::ProcessId;
use tokio::{sync::mpsc, task::AbortHandle};

use super::{TaskResult, effects::Effects};

/// A wait that is cancelled when dropped.
pub(super) struct Wait(AbortHandle);

impl Drop for Wait {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Wait {
    /// Reports to the loop when `main`, the first process of this instance of the target, has
    /// ended.
    pub(super) fn begin(
        effects: &Arc<dyn Effects>,
        done: &mpsc::Sender<TaskResult>,
        main: ProcessId,
        uid: String,
        instance: String,
    ) -> Self {
        let (effects, done) = (Arc::clone(effects), done.clone());
        let task = tokio::spawn(async move {
            tokio::select! {
                () = effects.ended(main) => {
                    // The loop is gone only when the agent stops.
                    let _ = done.send(TaskResult::Lost { uid, instance }).await;
                }
                () = done.closed() => {}
            }
        });
        Self(task.abort_handle())
    }
}
