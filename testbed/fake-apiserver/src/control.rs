//! What a test can order: who may do what, and what goes wrong.
use std::time::Duration;

use crate::{FakeApi, Fault, Identity, log::Logged};

/// Access.
impl FakeApi {
    /// Registers who stands behind a token.
    pub fn identity(&self, token: &str, identity: Identity) {
        self.with(|state| state.access.identities.insert(token.to_owned(), identity));
    }

    /// Forgets a token, as happens soon after its pod was deleted.
    pub fn revoke(&self, token: &str) {
        self.with(|state| {
            state.access.identities.remove(token);
            state.access.known.remove(token);
        });
    }

    /// Whether anybody may do everything, with any token or none.
    pub fn open(&self, open: bool) {
        self.with(|state| state.access.open = open);
    }

    /// Fences the evictions and deletions of this user in, or nobody's.
    pub fn fence(&self, username: Option<&str>) {
        self.with(|state| state.access.fenced = username.map(str::to_owned));
    }
}

/// Faults.
impl FakeApi {
    /// Whether nobody can be reached. Open watches break when it goes down.
    pub fn down(&self, down: bool) {
        self.with(|state| state.faults.down = down);
        if down {
            self.break_watches();
        }
    }

    pub(crate) fn is_down(&self) -> bool {
        self.with(|state| state.faults.down)
    }

    /// Cuts off one client, by its token, or lets it back: to it the server is down.
    pub fn cut_off(&self, token: &str, cut_off: bool) {
        self.with(|state| {
            let tokens = &mut state.faults.cut_off;
            if cut_off {
                tokens.insert(token.to_owned())
            } else {
                tokens.remove(token)
            };
            state.pulse += 1;
        });
    }

    /// How long each request takes before it is carried out.
    pub fn set_latency(&self, latency: Duration) {
        self.with(|state| state.faults.latency = latency);
    }

    /// How much later watches tell of changes.
    pub fn set_watch_lag(&self, lag: Duration) {
        self.with(|state| {
            state.faults.watch_lag = lag;
            state.pulse += 1;
        });
    }

    /// Breaks the connections of all open watches.
    pub fn break_watches(&self) {
        self.with(|state| {
            state.faults.breaks += 1;
            state.pulse += 1;
        });
    }

    /// The same, in the middle of a line.
    pub fn cut_watches(&self) {
        self.with(|state| {
            state.faults.breaks += 1;
            state.faults.mid_line = Some(state.faults.breaks);
            state.pulse += 1;
        });
    }

    /// Lets the next so many requests that `when` is true of meet a fault. `when` must not ask
    /// the fake anything: it is in the middle of something.
    pub fn fail_next(
        &self,
        requests: usize,
        when: impl Fn(&Logged) -> bool + Send + 'static,
        fault: Fault,
    ) {
        self.with(|state| state.faults.plan(requests, Box::new(when), fault));
    }

    /// Calls off what [`FakeApi::fail_next`] has planned.
    pub fn forget_faults(&self) {
        self.with(|state| state.faults.forget_planned());
    }

    /// Forgets the changes so far: a watch from an older version is expired, as after a restart
    /// of the server.
    pub fn expire_watches(&self) {
        self.with(|state| state.store.expire_watches());
    }

    /// Forgets the past: a list at an older version is expired, and so are its next pages.
    pub fn compact(&self) {
        self.with(|state| state.store.compact());
    }

    /// Lets versions pass, as changes of objects do that nobody here knows.
    pub fn skip_versions(&self, versions: u64) {
        self.with(|state| state.store.skip_versions(versions));
    }

    /// Whether watches may ask for the initial state first; they may, until told otherwise.
    pub fn set_watch_lists(&self, on: bool) {
        self.with(|state| state.watch_lists = on);
    }
}
