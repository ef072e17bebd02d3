"""How a model does on services that it has not learnt from: each in turn is left out.

That is the honest figure. Episodes of one service are alike, so a model that has learnt from some
of them knows the others. Users run services that no recording here has.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import f1_score

from paramedic_model import familiar, generate, recorded
from paramedic_model.brain import Brain
from paramedic_model.familiar import Familiarity
from paramedic_model.lab_report import GATE, SAID, Bools, acted_on, by_kind, counts
from paramedic_model.recorded import Data, Recorded
from paramedic_model.report import brier, calibration_error, table
from paramedic_model.rowfile import PATIENT
from paramedic_model.schema import CLASSES, RESTART_SERVICE
from paramedic_model.trees import Floats, Ints

# The families of synthetic rows that must be known: the policy of restarts.
SURFACE: Final = ("rules", "honest", "lying", "stuck", "left_alone")
SURFACE_ROWS: Final = 5_000
SEED: Final = 2027
# A fault is listed if a larger share of its rows was judged wrongly.
WORTH_TELLING: Final = 0.1


@dataclass(frozen=True)
class Stranger:
    """A service, and what was said of its rows by a model that has not seen it."""

    service: str
    rows: Recorded
    p: Floats
    unseen: Ints
    """Pairs of values in each row that never came together in the others."""

    def restarts(self) -> Bools:
        """Rows on which the agent would restart, by the verdict alone."""
        return acted_on(self.p, RESTART_SERVICE)

    def needs(self) -> Bools:
        needs: Bools = self.rows.labels == RESTART_SERVICE
        return needs


@dataclass(frozen=True)
class Strangers:
    """All that were left out once, and the bound that they gave."""

    all: Sequence[Stranger]
    most: int

    def labels(self) -> Ints:
        return np.concatenate([one.rows.labels for one in self.all])

    def p(self) -> Floats:
        return np.concatenate([one.p for one in self.all])

    def restarts(self) -> Bools:
        return acted_on(self.p(), RESTART_SERVICE)

    def strange(self) -> Bools:
        """Rows that the gate of familiarity refuses."""
        return np.concatenate([one.unseen for one in self.all]) > self.most

    def f1(self) -> float:
        labels, said = self.labels(), self.p().argmax(axis=1)
        return float(f1_score(labels, said, average="macro", labels=np.unique(labels)))

    def precision(self, *, gate: bool) -> float:
        """Of restarts at the gate of confidence; with `gate` also at that of familiarity."""
        said = self.restarts() & ~self.strange() if gate else self.restarts()
        return float((self.labels()[said] == RESTART_SERVICE).mean()) if said.any() else 1.0

    def report(self) -> str:
        if not self.all:
            return ""
        p, labels = self.p(), self.labels()
        restarts, strange = self.restarts(), self.strange()
        needs = labels == RESTART_SERVICE
        wrong, right = restarts & ~needs, restarts & needs
        scores = f"ECE {calibration_error(p, labels):.4f}, Brier {brier(p, labels):.4f}"
        stopped = f"{int((wrong & strange).sum()):,} of {int(wrong.sum()):,} wrong ones"
        costs = f"{int((right & strange).sum()):,} of {int(right.sum()):,} right ones"
        return f"""## Services that the model has not learnt from
Each of {len(self.all)} foreign services is left out once: a model that learns from all others
judges its rows, {len(labels):,} together. **Macro-F1 {self.f1():.3f}**; {scores}.

`restart_service` at the gate of {GATE}: precision {self.precision(gate=False):.3f} of
{int(restarts.sum()):,} rows. The gate `unfamiliar` refuses rows with more than {self.most} unseen
pairs of values: {stopped} and {costs}. With it the precision is {self.precision(gate=True):.3f}.

### By service
{self.by_service()}

### By fault
Rows on which a model without this service said this, by what is to be done first.

{self.by_fault()}"""

    def by_service(self) -> str:
        lines = []
        for one in self.all:
            said, labels = one.p.argmax(axis=1), one.rows.labels
            classes = np.unique(labels)
            f1 = f1_score(labels, said, average="macro", labels=classes)
            restarts = one.restarts()
            wrong = int((restarts & ~one.needs()).sum())
            unseen = float((one.unseen > self.most).mean())
            cells = [f"{f1:.3f}", f"{(said == labels).mean():.1%}", f"{unseen:.1%}"]
            lines.append(
                [one.service, f"{len(labels):,}", *cells, str(int(restarts.sum())), str(wrong)]
            )
        head = ["service", "rows", "macro-F1", "right", "unfamiliar", "said restart", "wrongly"]
        return table(head, lines)

    def by_fault(self) -> str:
        lines = [
            [f"{one.service}, {kind}", CLASSES[k], *counts(said)]
            for one in self.all
            for kind, k, said in by_kind(one.rows, one.p)
            if (said != k).mean() > WORTH_TELLING
        ]
        note = f"Only those with more than {WORTH_TELLING:.0%} wrong.\n\n"
        return note + table(["service, fault", "to be done", *SAID], lines)


def leave_each_out(
    data: Data, fit: Callable[[Recorded], Brain], tell: Callable[[str], None]
) -> Strangers:
    """Judges each foreign service by a model of all others, and finds the bound of familiarity."""
    learnt = recorded.join([data.learn, data.held_out])
    judged = recorded.join([learnt, data.untold])
    program, of_learnt = (programs(rows.service) for rows in (judged, learnt))
    foreign = [str(name) for name in np.unique(program) if name != PATIENT]
    strangers = []
    for name in foreign:
        tell(f"without {name}")
        others = learnt.where(of_learnt != name)
        brain, known = fit(others), familiarity(others, 0)
        rows = judged.where(program == name)
        strangers.append(Stranger(name, rows, brain.calibrated(rows.rows), known.unseen(rows.rows)))
    if strangers:
        return Strangers(strangers, familiar.bound([one.unseen[one.needs()] for one in strangers]))
    needs = data.held_out.labels == RESTART_SERVICE
    unseen = familiarity(data.learn, 0).unseen(data.held_out.rows[needs])
    return Strangers([], familiar.bound([unseen]))


def programs(services: NDArray[np.str_]) -> NDArray[np.str_]:
    """Services that differ by their settings alone (`flask`, `flask-bare`) are one program."""
    return np.array([name.split("-")[0] for name in services])


def familiarity(real: Recorded, most: int) -> Familiarity:
    """Of recorded rows and of the surface that must be known."""
    surface = generate.plain(SURFACE, SURFACE_ROWS, SEED)
    rows = np.concatenate([real.rows, surface])
    episodes = np.concatenate([real.episode, np.arange(len(surface)).astype(str)])
    return familiar.learn(rows, episodes, most)
