"""How good the model is on recorded episodes that it has not seen, and against others."""

import hashlib
import json
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
from paramedic_model.schema import CLASSES, FEATURES, HEALTH_FEATURES, NO_ACTION

# The guard's gate.
GATE: Final = 0.8

Floats = NDArray[np.float64]
Rows = NDArray[np.float32]


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
        said = (self.p.argmax(axis=1) == action) & (self.p.max(axis=1) >= GATE)
        true = held_out.labels == action
        right = int((said & true).sum())
        return right / max(int(said.sum()), 1), right / max(int(true.sum()), 1)


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
        head = ["model", "macro-F1", "of what helped", "ECE", "Brier"]
        rows = [
            [
                name,
                f"{j.f1:.3f}",
                f"{j.f1_measured:.3f}",
                f"{calibration_error(j.p, self.held_out.labels):.4f}",
                f"{brier(j.p, self.held_out.labels):.4f}",
            ]
            for name, j in self.models()
        ]
        return table(head, rows)

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
        said = self.new.p.argmax(axis=1)
        lines = []
        for kind in np.unique(self.held_out.kind):
            for k, name in enumerate(CLASSES):
                mine = (self.held_out.kind == kind) & (self.held_out.labels == k)
                if mine.any():
                    counts = [str(int((said[mine] == j).sum())) for j in range(len(CLASSES))]
                    right = (said == self.held_out.labels)[mine]
                    lines.append([kind, name, *counts, f"{right.mean():.1%}"])
        return table(["kind", "to be done", *(f"said {c}" for c in CLASSES), "right"], lines)

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


def needs_a_remedy(p: Floats) -> NDArray[np.bool_]:
    """Whether a verdict would be acted on."""
    acted: NDArray[np.bool_] = (p.max(axis=1) >= GATE) & (p.argmax(axis=1) != NO_ACTION)
    return acted
