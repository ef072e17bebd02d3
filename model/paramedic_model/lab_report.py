"""How good the model is on recorded episodes that it has not seen, and against others."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import f1_score

from paramedic_model import export, golden
from paramedic_model.brain import Brain, probabilities
from paramedic_model.recorded import Data, Recorded
from paramedic_model.report import brier, calibration_error, table
from paramedic_model.schema import CLASSES, FEATURES, HEALTH_FEATURES, RESET_ERRORS, RESTART_SERVICE
from paramedic_model.trees import Floats, Ints, Rows

# The guard's gate.
GATE: Final = 0.8
# The head of `Judged.scores`.
SAID: Final = tuple(f"said {name}" for name in CLASSES)
SCORES: Final = ("macro-F1", "of what helped", "ECE", "Brier")

Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Judged:
    """One model's probabilities on the held-out rows."""

    p: Floats
    f1: float
    """Unweighted over classes, of the verdicts."""
    f1_measured: float
    """The same against what helped, where a reset is tried first or not."""

    @classmethod
    def of(cls, p: Floats, held_out: Recorded) -> "Judged":
        said = p.argmax(axis=1)
        truths = (held_out.labels, held_out.measured)
        f1, measured = (float(f1_score(truth, said, average="macro")) for truth in truths)
        return cls(p, f1, measured)

    def at_the_gate(self, held_out: Recorded, action: int) -> tuple[float, float]:
        """Precision and recall of the verdicts that would be acted on."""
        said = acted_on(self.p, action)
        true = held_out.labels == action
        right = int((said & true).sum())
        return right / max(int(said.sum()), 1), right / max(int(true.sum()), 1)

    def scores(self, labels: Ints) -> list[str]:
        errors = (calibration_error(self.p, labels), brier(self.p, labels))
        return [f"{self.f1:.3f}", f"{self.f1_measured:.3f}", *(f"{e:.4f}" for e in errors)]


@dataclass(frozen=True)
class Trial:
    """The new model, one that knows /health alone, and the model that was there before."""

    held_out: Recorded
    told: dict[str, int]
    new: Judged
    undrawn: Judged
    """The new one on the same rows with their recorded values."""
    blind: Judged
    old: Judged | None
    old_sha256: str

    @classmethod
    def of(cls, brain: Brain, blind: Brain, data: Data, old: Path | None) -> "Trial":
        rows, held_out = data.held_out.rows, data.held_out
        hidden = np.zeros_like(rows)
        hidden[:, : len(HEALTH_FEATURES)] = rows[:, : len(HEALTH_FEATURES)]
        before, sha256 = None, ""
        if old:
            model = old.read_bytes()
            sha256 = hashlib.sha256(model).hexdigest()
            before = Judged.of(said_by(old, model, rows), held_out)
        return cls(
            held_out,
            data.told,
            Judged.of(brain.calibrated(rows), held_out),
            Judged.of(brain.calibrated(data.undrawn), held_out),
            Judged.of(blind.calibrated(hidden), held_out),
            before,
            sha256,
        )

    def old_f1(self) -> float:
        return self.old.f1 if self.old else 0.0

    def is_worse(self, tolerance: float) -> bool:
        return self.new.f1 < self.old_f1() - tolerance

    def models(self) -> list[tuple[str, Judged]]:
        before = f"the model before, `{self.old_sha256[:16]}…`"
        return [
            ("all columns", self.new),
            ("all columns, rows as recorded", self.undrawn),
            ("/health alone", self.blind),
            *([(before, self.old)] if self.old else []),
        ]

    def summary(self) -> str:
        rows = [[name, *judged.scores(self.held_out.labels)] for name, judged in self.models()]
        return table(["model", *SCORES], rows)

    def report(self, plots: str) -> str:
        told = "\n".join(f"- {what}: {count:,}" for what, count in self.told.items())
        return f"""## Recorded episodes that the model has not seen
{told}

{self.summary()}

Macro-F1 is unweighted over the three classes. The first column judges by what is to be done first:
where a reset often helped on rows that look the same, it is tried before a restart, and the ladder
climbs. The second judges by the remedy that helped, whether or not anybody could have known. The
little patients of the lab use little CPU and memory, which would tell them from others: half of the
small values are drawn anew, here as in training; the second line is without that. The model \
before is
the one that this one took the place of, known by the SHA-256 of its file.

### At the gate of {GATE}
A verdict below this confidence is not acted on: it counts as not said, and lowers the recall.

{self.gate()}

### By kind of fault
Rows on which the model said this, at whatever confidence, by what is to be done first.

{self.kinds()}

Features over time in one held-out episode of each kind, every look as it was recorded, in the \
patient
that was left alone, with the looks at which the model called for a remedy: {self.plots(plots)}."""

    def gate(self) -> str:
        lines = []
        for k, name in enumerate(CLASSES):
            precision, recall = self.new.at_the_gate(self.held_out, k)
            rows = int((self.held_out.labels == k).sum())
            lines.append([name, f"{precision:.3f}", f"{recall:.3f}", str(rows)])
        return table(["class", "precision", "recall", "rows"], lines)

    def kinds(self) -> str:
        lines = [
            [kind, CLASSES[k], *counts(said), f"{(said == k).mean():.1%}"]
            for kind, k, said in by_kind(self.held_out, self.new.p)
        ]
        return table(["kind", "to be done", *SAID, "right"], lines)

    def plots(self, folder: str) -> str:
        kinds = np.unique(self.held_out.kind)
        return ", ".join(f"[{kind}]({folder}/{kind}.svg)" for kind in kinds)


def said_by(path: Path, model: bytes, rows: Rows) -> Floats:
    """The calibrated probabilities of a model that was not trained here and now."""
    try:
        columns = json.loads(export.properties(model).get("feature_names", "null"))
        calibration = golden.read_calibration(model)
    except ValueError as error:
        raise ValueError(f"{path} cannot be compared: {error}") from error
    # One of an older schema is asked what it knows.
    if columns != list(FEATURES[: len(columns or ())]):
        raise ValueError(f"{path} cannot be compared: it was trained on other columns")
    known = rows[:, : len(columns)]
    return probabilities(export.run(model, known)[1].astype(np.float64), calibration)


def by_kind(rows: Recorded, p: Floats) -> Iterator[tuple[str, int, Ints]]:
    """What was said of the rows of each kind that have the same label, at whatever confidence."""
    said = p.argmax(axis=1)
    for kind in np.unique(rows.kind):
        for k in range(len(CLASSES)):
            mine = (rows.kind == kind) & (rows.labels == k)
            if mine.any():
                yield str(kind), k, said[mine]


def counts(said: Ints) -> list[str]:
    """Below the head `SAID`."""
    return [str(int((said == k).sum())) for k in range(len(CLASSES))]


def acted_on(p: Floats, action: int) -> Bools:
    """Rows on which the agent would do this, by the verdict alone."""
    acted: Bools = (p.max(axis=1) >= GATE) & (p.argmax(axis=1) == action)
    return acted


def needs_a_remedy(p: Floats) -> Bools:
    """Rows on which the agent would do anything."""
    return acted_on(p, RESET_ERRORS) | acted_on(p, RESTART_SERVICE)
