"""Recorded episodes: rows that the agent's own code made of real faults, with measured labels.

`cargo xtask lab` and `cargo xtask strangers --record` write them. A label is the mildest remedy
after which the clients of a paired target were served again. It is measured, and it is changed in
four ways before training, which the report counts:

- Rows of one episode are alike, so a few of each are kept, evenly over its time.
- Two faults can look the same and need different remedies. If a reset has helped often enough on
  rows like this one, it is tried first: it costs nothing, and the agent escalates if it does not
  help. A forest that was trained on both labels would never be sure of either.
- The known decision surface must hold. Rows that contradict it, and on which the kernel shows
  nothing or only a handful of failed requests, are not used for training. They stay among those
  held out, where they count as wrong.

- A service that fails most requests may be cured by a restart or not: memory that is poisoned
  looks like a disk that is full. What tells them apart is in no column, but known to the guard
  (gates `futile` and `excused`), which has the last word. Rows of those that nothing cures are not
  learnt from: a forest of both would never be sure. They are judged with the others.

The hour, the uptime and the small use of CPU and memory in the lab show nothing about the field, so
other values are drawn for them. Recordings from before the columns of version 2 have neutral values
there, and a response time is drawn for them: no time at all would tell them from others. Plots, and
one line of the report, show the rows as recorded.

A quarter of the episodes is held out, always the same ones: those of the shipped folders by their
place in it, those of any other by their content.
"""

import hashlib
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import RandomForestClassifier

from paramedic_model import rowfile
from paramedic_model.generate import (
    BURST_RATE,
    SPARSE_GOOD,
    SPARSE_RATE,
    UPTIME_MAX_S,
    Ints,
    remedy,
    to_columns,
)
from paramedic_model.rowfile import UNLABELLED, Row
from paramedic_model.schema import ADDED, FEATURES, NO_ACTION, RESET_ERRORS, RESTART_SERVICE

Rows = NDArray[np.float32]
Bools = NDArray[np.bool_]

# Rows kept of each patient of an episode, for each label.
KEPT: Final = 16
# Every so manieth episode is held out.
HELD_OUT_EVERY: Final = 4
# What the names of shipped episodes begin with. Those of others begin with a hash.
SHIPPED: Final = "data"
UPTIME_MIN_S: Final = 60.0
FOLDS: Final = 5
# Least share of the rows in a leaf of the forest that says where a reset is worth trying.
COARSE: Final = 0.05
# A restart costs its users about as much as ten resets: a reset is tried if it helps one in ten.
WORTH_TRYING: Final = 0.1
# A service with a larger share of 5xx fails.
FAILING: Final = 0.4


@dataclass(frozen=True)
class Recorded:
    """Labelled rows; `measured` is what helped, `labels` what is to be done first."""

    rows: Rows
    labels: Ints
    measured: Ints
    kind: NDArray[np.str_]
    arm: NDArray[np.str_]
    phase: NDArray[np.str_]
    since_fault_s: NDArray[np.float64]
    episode: NDArray[np.str_]
    service: NDArray[np.str_]
    lacks: Bools
    """Rows from before the columns of version 2."""

    def where(self, which: Bools | Ints) -> "Recorded":
        return Recorded(**{name: column[which] for name, column in vars(self).items()})

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Data:
    """What is learnt from, what is held out, and what was done to it."""

    learn: Recorded
    held_out: Recorded
    """As they are learnt from: few of a kind, with other values where those are the lab's own."""
    undrawn: Rows
    """The same rows with their recorded values."""
    untold: Recorded
    """What tells these from rows that need a restart is in no column."""
    as_recorded: Recorded
    """All rows of the same episodes, those without a label too."""
    told: dict[str, int]


@dataclass(frozen=True)
class Recordings:
    """Folders of recorded rows: those of the repository, and others."""

    shipped: Sequence[Path]
    others: Sequence[Path] = ()

    def all(self) -> list[Path]:
        return [*self.shipped, *self.others]


def load(recordings: Recordings, seed: int) -> Data:
    """What the recordings hold."""
    refuse_twins(recordings.all())
    parts = [read(folder, shipped=True) for folder in recordings.shipped]
    parts += [read(folder, shipped=False) for folder in recordings.others]
    whole = join(parts)
    everything = whole.where(whole.labels != UNLABELLED)
    told = {"rows": len(everything), "episodes": len(np.unique(everything.episode))}
    told[f"rows from before {', '.join(ADDED)}"] = int(everything.lacks.sum())
    kept = thin(everything)
    everything = redraw(kept, seed)
    told["rows kept of similar ones"] = len(everything)
    held = held_out(everything)
    learn, test = everything.where(~held), everything.where(held)
    against = contradicts_surface(learn)
    told["rows not learnt from, since the known surface says otherwise"] = int(against.sum())
    told["rows held out on which it does, and that count as wrong"] = int(
        contradicts_surface(test).sum()
    )
    learn = learn.where(~against)
    hidden = is_untold(learn)
    told["rows not learnt from, since what tells them apart is in no column"] = int(hidden.sum())
    learn, untold = learn.where(~hidden), learn.where(hidden)
    mild = [mildest_first(part, learn) for part in (learn, test)]
    told["rows on which a reset is tried before the restart that helps"] = sum(
        int((m.labels != m.measured).sum()) for m in mild
    )
    told["episodes held out"] = len(np.unique(test.episode))
    drawn = whole.where(np.isin(whole.episode, np.unique(test.episode)))
    return Data(mild[0], mild[1], kept.rows[held], untold, drawn, told)


def refuse_twins(folders: list[Path]) -> None:
    """A row must not be learnt from under one name and held out under another."""
    seen: dict[str, Path] = {}
    for folder in folders:
        digest = hashlib.sha256((folder / rowfile.NAME).read_bytes()).hexdigest()
        if digest in seen:
            raise ValueError(f"{folder} holds the same rows as {seen[digest]}: name one of them")
        seen[digest] = folder


def read(folder: Path, *, shipped: bool) -> Recorded:
    """The rows of one folder."""
    path = folder / rowfile.NAME
    table = rowfile.read(path)
    if all(row.label == UNLABELLED for row in table):
        raise ValueError(f"{path} holds no labelled rows")
    labels = np.array([row.label for row in table], dtype=np.int64)
    return Recorded(
        rows=np.array([row.features for row in table], dtype=np.float32),
        labels=labels,
        measured=labels,
        kind=np.array([row.text["kind"] for row in table]),
        arm=np.array([row.text["arm"] for row in table]),
        phase=np.array([row.text["phase"] for row in table]),
        since_fault_s=np.array([row.since_fault_s for row in table]),
        episode=np.array(names(table, shipped_as(folder) if shipped else None)),
        service=np.array([row.service for row in table]),
        lacks=np.array([row.lacks for row in table]),
    )


def shipped_as(folder: Path) -> str:
    """A name that does not depend on where the repository is."""
    return SHIPPED if folder.name == SHIPPED else f"{SHIPPED}-{folder.name}"


def names(table: Sequence[Row], prefix: str | None) -> list[str]:
    """What the episode of each row is called, by which it is held out or not.

    An episode is known by its first row, which stays as it is when the recording goes on or is put
    together with others. The name of a folder says nothing: many are called alike.
    """
    prefixes: dict[str, str] = {}
    columns = ["kind", "arm", "phase", "since_fault_s", *FEATURES]
    columns = [name for name in columns if not (table[0].lacks and name in ADDED)]
    for row in table:
        if row.text["episode"] not in prefixes:
            first = ",".join(row.text[name] for name in columns)
            digest = hashlib.sha256(first.encode()).hexdigest()[:16]
            prefixes[row.text["episode"]] = prefix or digest
    return [f"{prefixes[row.text['episode']]}/{int(row.text['episode']):06d}" for row in table]


def join(parts: list[Recorded]) -> Recorded:
    return Recorded(
        **{name: np.concatenate([getattr(p, name) for p in parts]) for name in vars(parts[0])}
    )


def thin(data: Recorded) -> Recorded:
    keys = [
        f"{e} {a} {p} {label}"
        for e, a, p, label in zip(data.episode, data.arm, data.phase, data.labels, strict=True)
    ]
    _, key = np.unique(keys, return_inverse=True)
    order = np.argsort(key, kind="stable")
    keep = np.zeros(len(data), dtype=bool)
    for mine in np.split(order, np.flatnonzero(np.diff(key[order])) + 1):
        step = max(1.0, len(mine) / KEPT)
        keep[mine[(np.arange(0, len(mine), step)).astype(int)]] = True
    return data.where(keep)


def redraw(data: Recorded, seed: int) -> Recorded:
    rng = np.random.default_rng(seed)
    rows = data.rows.copy()
    n = len(rows)
    uptime = np.exp(rng.uniform(np.log(UPTIME_MIN_S), np.log(UPTIME_MAX_S), n))
    rows[:, FEATURES.index("uptime")] = uptime
    rows[:, FEATURES.index("hour_of_day")] = rng.integers(0, 24, n)
    # Where they are no part of the story; half of the rows stay as they were.
    for name, small, high in (("cpu_usage", 20, 50), ("memory_usage", 40, 75)):
        column = rows[:, FEATURES.index(name)]
        other = (column < small) & (rng.random(n) < 0.5)
        column[other] = rng.integers(0, high, int(other.sum()))
    # About as long as the poll took.
    answers = data.lacks & (rows[:, FEATURES.index("http_request_rate")] > 0)
    took = rows[:, FEATURES.index("health_latency")] * np.exp(rng.normal(0.0, 0.7, n))
    rows[answers, FEATURES.index("response_time")] = took[answers]
    return Recorded(**(vars(data) | {"rows": rows}))


def contradicts_surface(data: Recorded) -> Bools:
    """Rows of the known surface whose measured label is another."""
    c = to_columns(data.rows)
    quiet = (c["http_5xx_rate"] == 0) & (c["health_failures"] == 0)
    others = ("tcp_reset_rate", "tcp_retransmit_rate", "cpu_throttled_ratio", "upstream_5xx_rate")
    added = ("unanswered_ratio", "upstream_waiting_ratio", "upstream_refused_rate")
    for name in others + added:
        quiet &= c[name] == 0
    neutral = quiet & (c["http_request_rate"] < SPARSE_GOOD)
    failed, good = c["http_5xx_rate"], c["http_request_rate"] - c["http_5xx_rate"]
    handful = (failed > 0) & (failed < SPARSE_RATE) & (good < SPARSE_GOOD)
    handful &= (c["health_failures"] == 0) & (c["unanswered_ratio"] == 0)
    contradicts: Bools = (neutral | handful) & (remedy(c) != data.labels)
    return contradicts


def is_untold(data: Recorded) -> Bools:
    """A service fails of its own accord, as far as its row tells, and no remedy helped."""
    c = to_columns(data.rows)
    fails = (c["http_5xx_ratio"] >= FAILING) & (c["http_5xx_rate"] >= BURST_RATE)
    for name in ("upstream_5xx_rate", "upstream_waiting_ratio", "upstream_refused_rate"):
        fails &= c[name] == 0
    untold: Bools = fails & (data.labels == NO_ACTION)
    return untold


def held_out(data: Recorded) -> Bools:
    """By episode, never by row; the same episodes whatever else is recorded."""
    shipped = np.char.startswith(data.episode, SHIPPED)
    chosen = [
        name
        for name in np.unique(data.episode[~shipped])
        if int(name.split("/")[0], 16) % HELD_OUT_EVERY == 0
    ]
    folder = np.array([name.split("/")[0] for name in data.episode])
    for which in np.unique(folder[shipped]):
        for kind in np.unique(data.kind[folder == which]):
            mine = np.unique(data.episode[(folder == which) & (data.kind == kind)])
            chosen += list(mine[HELD_OUT_EVERY - 1 :: HELD_OUT_EVERY])
    return np.isin(data.episode, chosen)


def mildest_first(data: Recorded, learn: Recorded) -> Recorded:
    """Where a reset has often helped on rows like these, it is what to do first.

    How often is asked of a coarse forest: it tells a patient that hangs from one that fails, and is
    too coarse to tell one episode of failing from another. No episode is asked about itself.
    """
    treated = learn.where(np.isin(learn.measured, (RESET_ERRORS, RESTART_SERVICE)))
    # What leaves its clients without a response does not take a reset either.
    mine = (data.measured == RESTART_SERVICE) & (to_columns(data.rows)["unanswered_ratio"] == 0)
    labels = data.labels.copy()
    for fold in range(FOLDS):
        asked = mine & (fold_of(data.episode) == fold)
        others = treated.where(fold_of(treated.episode) != fold)
        if not asked.any() or len(np.unique(others.measured)) < 2:
            continue
        coarse = RandomForestClassifier(
            n_estimators=50, max_depth=4, min_samples_leaf=COARSE, random_state=0
        ).fit(decisive(others.rows), others.measured == RESET_ERRORS)
        helped = coarse.predict_proba(decisive(data.rows[asked]))[:, 1]
        labels[np.flatnonzero(asked)[helped >= WORTH_TRYING]] = RESET_ERRORS
    return Recorded(**(vars(data) | {"labels": labels}))


def decisive(rows: Rows) -> Rows:
    """What may decide."""
    shown = [i for i, name in enumerate(FEATURES) if name not in ("uptime", "hour_of_day")]
    return rows[:, shown]


def fold_of(episodes: NDArray[np.str_]) -> Ints:
    return np.array([zlib.crc32(e.encode()) % FOLDS for e in episodes], dtype=np.int64)
