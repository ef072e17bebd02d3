"""Which rows the model knows: pairs of values that came together in what it learnt from.

crates/core/src/decide/familiar.rs is the other side, and tells the idea. A column is cut where its
values in the recorded rows are dense, with a range for zero alone. A pair of ranges is seen if it
was in two episodes: one may be an accident. Beside recorded rows count some that must be known:
`strangers.py` says which.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from paramedic_model.schema import FEATURES

Rows = NDArray[np.float32]
Ints = NDArray[np.int64]

# As in the agent.
RANGES: Final = 8
COLUMNS: Final = tuple(name for name in FEATURES if name not in ("uptime", "hour_of_day"))
EPISODES: Final = 2
# The bound may refuse at most this share of the right restarts, on services that were left out.
COSTS: Final = 0.02


@dataclass(frozen=True)
class Familiarity:
    """Where ranges end, which pairs of them were seen, and how many unseen ones are permitted."""

    ends: Sequence[Rows]
    seen: NDArray[np.bool_]
    """By pair of columns, then by the ranges of the first column and of the second."""
    most: int

    def unseen(self, rows: Rows) -> Ints:
        ranges = cut(rows, self.ends)
        unseen = np.zeros(len(rows), dtype=np.int64)
        for (first, second), seen in zip(pairs(), self.seen, strict=True):
            unseen += ~seen[ranges[:, first], ranges[:, second]]
        return unseen

    def is_strange(self, rows: Rows) -> NDArray[np.bool_]:
        strange: NDArray[np.bool_] = self.unseen(rows) > self.most
        return strange

    def written(self) -> dict[str, Any]:
        bits = self.seen.reshape(len(self.seen), RANGES * RANGES)
        words = [sum(1 << int(i) for i in np.flatnonzero(word)) for word in bits]
        return {
            "columns": COLUMNS,
            "ends": [ends.tolist() for ends in self.ends],
            "seen": [f"{word:016x}" for word in words],
            "most": self.most,
        }


def pairs() -> list[tuple[int, int]]:
    """In the agent's order: by the second, then by the first."""
    return sorted(combinations(range(len(COLUMNS)), 2), key=lambda pair: (pair[1], pair[0]))


def decisive(rows: Rows) -> Rows:
    return rows[:, [FEATURES.index(name) for name in COLUMNS]]


def learn(rows: Rows, episodes: NDArray[np.str_], most: int) -> Familiarity:
    """From rows, and the episode of each."""
    ends = [ends_of(column) for column in decisive(rows).T]
    ranges = cut(rows, ends)
    names, episode = np.unique(episodes, return_inverse=True)
    seen = np.zeros((len(pairs()), RANGES, RANGES), dtype=bool)
    for at, (first, second) in enumerate(pairs()):
        cell = ranges[:, first] * RANGES + ranges[:, second]
        both = np.unique(cell * len(names) + episode)
        count = np.bincount(both // len(names), minlength=RANGES * RANGES)
        seen[at] = (count >= EPISODES).reshape(RANGES, RANGES)
    return Familiarity(ends, seen, most)


def ends_of(column: Rows) -> Rows:
    """Zero, then where the values above it are dense."""
    above = column[column > 0]
    if not len(above):
        return np.zeros(1, dtype=np.float32)
    steps = np.arange(1, RANGES - 1) / (RANGES - 1)
    dense = np.quantile(above, steps, method="lower").astype(np.float32)
    return np.unique(np.concatenate([np.zeros(1, dtype=np.float32), dense]))


def cut(rows: Rows, ends: Sequence[Rows]) -> Ints:
    """The range of each value: how many ends are below it."""
    columns = decisive(rows).T
    ranges = [np.searchsorted(e, c, side="left") for e, c in zip(ends, columns, strict=True)]
    return np.stack(ranges, axis=1).astype(np.int64)


def bound(unseen_of_right: Sequence[Ints]) -> int:
    """The least bound that costs few of the right restarts, each service counting the same.

    Takes the unseen pairs of the rows of each service that need a restart, of which nothing of the
    same service was learnt.
    """
    services = [unseen for unseen in unseen_of_right if len(unseen)]
    if not services:
        return len(pairs())
    for most in range(len(pairs())):
        if np.mean([(unseen > most).mean() for unseen in services]) <= COSTS:
            return most
    return len(pairs())
