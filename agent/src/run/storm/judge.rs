//! The oracle: what must never happen in a simulation. It counts what was really done, and uses
//! none of the guard's code.
use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use fake_apiserver::{FakeApi, Relabelled, Resized};
use paramedic_core::{resize::Resource, target::Remedy};
use serde_json::Value;

use super::ward::{Given, LIMIT, Ward};

/// What happened in a simulation.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) soft: usize,
    pub(super) restarts: usize,
    pub(super) evictions: usize,
    /// Hard remedies that an owner approved.
    pub(super) approved: usize,
    pub(super) drains: usize,
    pub(super) quarantines: usize,
    /// Limits that were raised, and those that were withdrawn.
    pub(super) resizes: usize,
    pub(super) withdrawn: usize,
}

impl Tally {
    pub(super) fn add(&mut self, other: &Self) {
        self.soft += other.soft;
        self.restarts += other.restarts;
        self.evictions += other.evictions;
        self.approved += other.approved;
        self.drains += other.drains;
        self.quarantines += other.quarantines;
        self.resizes += other.resizes;
        self.withdrawn += other.withdrawn;
    }
}

/// The period of a workload's share, minus the error of a clock with whole seconds.
const SHARE_SPAN: Duration = Duration::from_secs(598);
/// Minimum time that a hard remedy holds its workload's lock: a restarted container is back after
/// 0.9 s at the earliest, and only then can it turn out that it did not help.
const ONE_AT_A_TIME: Duration = Duration::from_millis(900);
/// Maximum time from the answer of a budget to a change of labels: three seconds, and a slow request.
const ASKED: Duration = Duration::from_secs(6);
/// Maximum time until a pause takes effect.
const PAUSE: Duration = Duration::from_secs(5);

/// # Errors
/// The first violation.
pub(super) fn judge(ward: &Ward, fake: &FakeApi) -> Result<Tally, String> {
    if let Some(violation) = fake.violations().first() {
        return Err(format!("an eviction past a budget: {violation:?}"));
    }
    let given = ward.given();
    let evictions = fake.evictions();
    for one in &given {
        if one.node != one.by {
            return Err(format!("a pod of another node was touched: {one:?}"));
        }
        // A soft remedy relies on the watch, which may be late or cut off; for a hard one the label
        // is read from the API server.
        let ceiling = one.label.unwrap_or(Remedy::Observe);
        if one.remedy.is_hard() && one.remedy > ceiling {
            return Err(format!("above its ceiling: {one:?}"));
        }
        if one.remedy.is_hard() && one.remedy > one.cap {
            return Err(format!("above the cap of its namespace: {one:?}"));
        }
        if one.remedy == Remedy::Restart && one.served {
            return Err(format!("restarted while it was served, without a drain: {one:?}"));
        }
        if one.paused_for.is_some_and(|paused| paused > PAUSE) {
            return Err(format!("while paused: {one:?}"));
        }
    }
    for evicted in &evictions {
        let by = format!("system:serviceaccount:{}:paramedic-agent", super::OWN);
        if evicted.username != by {
            return Err(format!("evicted by somebody else: {evicted:?}"));
        }
    }
    once_each(&given)?;
    let (drains, quarantines) = set_aside(ward, fake)?;
    let restarts = given.iter().filter(|one| one.remedy == Remedy::Restart);
    let mut acts: Vec<Act<'_>> = restarts
        .clone()
        .map(|one| Act { at: one.at, uid: &one.uid, workload: &one.workload, remedy: one.remedy })
        .collect();
    acts.extend(evictions.iter().map(|one| {
        let workload = one.workload.as_ref().map_or(one.pod.as_str(), |(_, name)| name);
        Act { at: one.at, uid: &one.uid, workload, remedy: Remedy::Evict }
    }));
    acts.extend(quarantines.iter().map(|one| {
        let workload = one.workload.as_ref().map_or(one.pod.as_str(), |(_, name)| name);
        Act { at: one.at, uid: &one.uid, workload, remedy: Remedy::Evict }
    }));
    acts.sort_by_key(|act| act.at);
    let approved = each_approved(ward, &acts)?;
    let (resizes, withdrawn) = limits(ward, &fake.resizes())?;
    let hard = restarts.map(|one| (one.workload.clone(), (one.at, one.uid.clone())));
    let evicted = evictions.iter().map(|one| {
        let workload = one.workload.as_ref().map(|(_, name)| name.clone());
        (workload.unwrap_or_else(|| one.pod.clone()), (one.at, one.uid.clone()))
    });
    let mut by_workload: HashMap<String, Vec<(Duration, String)>> = HashMap::new();
    let kept = quarantines.iter().map(|one| {
        let workload = one.workload.as_ref().map(|(_, name)| name.clone());
        (workload.unwrap_or_else(|| one.pod.clone()), (one.at, one.uid.clone()))
    });
    for (workload, at) in hard.chain(evicted).chain(kept) {
        by_workload.entry(workload).or_default().push(at);
    }
    for (workload, mut times) in by_workload {
        times.sort();
        // One in ten minutes, or one for each ten pods. Only large workloads are never scaled.
        let due = (ward.pods_of(&workload).len() / 10).max(1);
        if let Some(span) = times.windows(due + 1).find(|t| t[due].0 - t[0].0 < SHARE_SPAN) {
            return Err(format!("{workload} was healed hard too often within 10 min: {span:?}"));
        }
        // The same pod may escalate as soon as a remedy turns out not to have helped.
        let together = |pair: &&[(Duration, String)]| {
            pair[0].1 != pair[1].1 && pair[1].0 - pair[0].0 < ONE_AT_A_TIME
        };
        if let Some(pair) = times.windows(2).find(together) {
            return Err(format!("two pods of {workload} were healed hard together: {pair:?}"));
        }
    }
    let count = |remedy| given.iter().filter(|one| one.remedy == remedy).count();
    Ok(Tally {
        soft: count(Remedy::Soft),
        restarts: count(Remedy::Restart),
        evictions: evictions.len(),
        approved,
        drains: drains.len(),
        quarantines: quarantines.len(),
        resizes,
        withdrawn,
    })
}

/// What was done to the labels of pods: drains and quarantines, each of which the budget permitted
/// just before, and none while healing was paused.
fn set_aside(ward: &Ward, fake: &FakeApi) -> Result<(Vec<Relabelled>, Vec<Relabelled>), String> {
    let (mut drains, mut quarantines) = (Vec::new(), Vec::new());
    let asked = fake.requests();
    for one in fake.relabelled() {
        let serving = |from, to| one.changes("paramedic.dev/serving", Some(from), Some(to));
        if serving("false", "true") {
            continue;
        }
        let drained = serving("true", "false");
        let kept = one.before.contains_key("app") && !one.after.contains_key("app");
        if drained == kept {
            return Err(format!("neither a drain nor a quarantine: {one:?}"));
        }
        let permitted = asked.iter().any(|asked| {
            asked.is_eviction()
                && asked.dry_run
                && asked.status == Some(201)
                && asked.name == one.pod
                && asked.identity == format!("agent-{}", one.node)
                && asked.at <= one.at
                && one.at - asked.at <= ASKED
        });
        if !permitted {
            return Err(format!("the budget was not asked: {one:?}"));
        }
        if ward.paused_for(one.at).is_some_and(|paused| paused > PAUSE) {
            return Err(format!("while paused: {one:?}"));
        }
        if drained { drains.push(one) } else { quarantines.push(one) }
    }
    Ok((drains, quarantines))
}

/// A hard remedy that was applied.
#[derive(Debug)]
struct Act<'a> {
    at: Duration,
    uid: &'a str,
    workload: &'a str,
    remedy: Remedy,
}

/// Where the owner wants to be asked, each hard remedy has an approval of its own: of this pod and
/// this remedy, written before, and used for no other. Returns how many there were.
fn each_approved(ward: &Ward, acts: &[Act<'_>]) -> Result<usize, String> {
    let approvals = ward.approvals();
    let mut used: HashMap<(&str, Remedy), usize> = HashMap::new();
    let asked = |act: &&Act<'_>| ward.ask_before(act.workload).is_some_and(|b| act.remedy >= b);
    for act in acts.iter().filter(asked) {
        let prefix = format!("{}-", act.remedy.name());
        let mine = approvals.iter().filter(|approval| {
            approval.uid == act.uid
                && approval.at <= act.at
                && approval.request.starts_with(&prefix)
        });
        let requests: HashSet<&str> = mine.map(|approval| approval.request.as_str()).collect();
        let used = used.entry((act.uid, act.remedy)).or_default();
        *used += 1;
        if *used > requests.len() {
            return Err(format!("without an approval of its own: {act:?}, of {requests:?}"));
        }
    }
    Ok(used.values().sum())
}

/// No instance is restarted twice, and no pod again within its cooldown, whichever agent died in
/// between.
fn once_each(given: &[Given]) -> Result<(), String> {
    let mut lives: HashMap<&str, &Given> = HashMap::new();
    let mut pods: HashMap<&str, Duration> = HashMap::new();
    for one in given.iter().filter(|one| one.remedy == Remedy::Restart) {
        if let Some(before) = lives.insert(&one.container_id, one) {
            return Err(format!("the same life was restarted twice: {before:?}, {one:?}"));
        }
        if let Some(before) = pods.insert(&one.uid, one.at)
            && one.at - before < SHARE_SPAN
        {
            return Err(format!("restarted again within its cooldown: {one:?}"));
        }
    }
    let mut soft: HashMap<&str, Duration> = HashMap::new();
    for one in given.iter().filter(|one| one.remedy == Remedy::Soft) {
        if let Some(before) = soft.insert(&one.uid, one.at)
            && one.at - before < Duration::from_secs(9)
        {
            return Err(format!("reset again within its cooldown: {one:?}"));
        }
    }
    Ok(())
}

/// Minimum time between two raises of the same limit.
const STEPS_APART: Duration = Duration::from_secs(60);

/// Every resize is of the agent's own node, by consent, of one memory limit, within its ceiling, and
/// keeps the QoS class. Returns how many limits were raised, and how many requests were withdrawn.
fn limits(ward: &Ward, resizes: &[Resized]) -> Result<(usize, usize), String> {
    let memory =
        |value: &Value| value["limits"]["memory"].as_str().and_then(|t| Resource::Memory.read(t));
    let (mut raised, mut withdrawn) = (0, 0);
    let mut last: HashMap<&str, &Resized> = HashMap::new();
    for one in resizes {
        let wrong = |how: &str| Err(format!("{how}: {one:?}"));
        if one.username != format!("system:serviceaccount:{}:paramedic-agent", super::OWN) {
            return wrong("resized by somebody else");
        }
        if one.by.as_ref() != Some(&one.node) {
            return wrong("a pod of another node was resized");
        }
        let label =
            one.metadata["labels"]["paramedic.dev/heal"].as_str().and_then(Remedy::from_name);
        let consent = one.metadata["annotations"]["paramedic.dev/resize"].as_str();
        let factor = match consent {
            Some("memory=2x") => 2000,
            Some("cpu=2x,memory=1.3x") => 1300,
            _ => return wrong("resized without consent"),
        };
        if label < Some(Remedy::Soft) {
            return wrong("above its ceiling");
        }
        let (Some(before), Some(after)) = (memory(&one.before), memory(&one.after)) else {
            return wrong("a limit was removed");
        };
        if after < LIMIT || after > LIMIT * factor / 1000 {
            return wrong("beyond its bounds");
        }
        let mut expected = one.before.clone();
        expected["limits"]["memory"] = one.after["limits"]["memory"].clone();
        if one.qos.0 == "Guaranteed" {
            expected["requests"]["memory"] = one.after["limits"]["memory"].clone();
        }
        if expected != one.after || one.qos.0 != one.qos.1 {
            return wrong("something else was changed too");
        }
        let pauses = ward.pauses();
        let paused =
            pauses.iter().find(|(from, to)| *from <= one.at && to.is_none_or(|to| one.at < to));
        if paused.is_some_and(|(from, _)| one.at - *from > PAUSE) && after > before {
            return wrong("while paused");
        }
        if after > before {
            raised += 1;
            let earlier = last.insert(&one.uid, one);
            // A request that was withdrawn is not a step; the next one waits for ten minutes.
            if let Some(earlier) = earlier
                && one.at - earlier.at < STEPS_APART
            {
                return wrong("raised again within a minute");
            }
        } else {
            withdrawn += 1;
            if last.get(one.uid.as_str()).is_none_or(|raise| memory(&raise.before) != Some(after)) {
                return wrong("lowered to what it never was");
            }
        }
    }
    Ok((raised, withdrawn))
}
