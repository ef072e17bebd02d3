"""How good the model is, as text: for the terminal and for REPORT.md."""

import hashlib
import json
import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import classification_report, confusion_matrix

from paramedic_model.brain import Brain, probabilities
from paramedic_model.checks import Result
from paramedic_model.familiar import Familiarity
from paramedic_model.generate import FAMILIES, Dataset, Ints
from paramedic_model.scenarios import Scenario
from paramedic_model.schema import CLASSES, FEATURES, NO_ACTION

LIBRARIES: Final = (
    "numpy",
    "scipy",
    "scikit-learn",
    "skl2onnx",
    "xgboost-cpu",
    "onnxmltools",
    "onnx",
    "onnxruntime",
)
# The original system's sample.
SAMPLE: Final = {"cpu_usage": 85.0, "memory_usage": 75.0, "error_count": 7.0, "uptime": 3600.0}
BINS: Final = 10

Floats = NDArray[np.float64]


def versions() -> dict[str, str]:
    return {"python": platform.python_version()} | {name: version(name) for name in LIBRARIES}


def machine() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    cpu = names[0] if names else platform.processor() or "unknown CPU"
    return f"{cpu}, {os.cpu_count()} cores, {platform.system()} {platform.machine()}"


@dataclass(frozen=True)
class Made:
    """A model, the file that it becomes, how it came to be, and the checks in which it held."""

    brain: Brain
    known: Familiarity
    model: bytes
    provenance: dict[str, Any]
    results: Sequence[Result]

    def sha256(self) -> str:
        return hashlib.sha256(self.model).hexdigest()


@dataclass(frozen=True)
class Scores:
    """Measured on rows that the model did not see."""

    labels: Ints
    raw: Floats
    calibrated: Floats

    @classmethod
    def of(cls, brain: Brain, test: Dataset) -> "Scores":
        raw = brain.raw(test.rows)
        return cls(test.labels, raw, probabilities(raw, brain.calibration))

    def accuracy(self) -> float:
        return float((self.calibrated.argmax(axis=1) == self.labels).mean())

    def classification(self) -> str:
        said = self.calibrated.argmax(axis=1)
        return str(classification_report(self.labels, said, target_names=CLASSES, digits=3))


def brier(p: Floats, labels: Ints) -> float:
    """Mean squared distance from the certain right answer, summed over classes: 0 to 2."""
    return float(((p - np.eye(len(CLASSES))[labels]) ** 2).sum(axis=1).mean())


def calibration_error(p: Floats, labels: Ints) -> float:
    """Expected calibration error of the verdicts: |confidence − accuracy| over equal bins."""
    confidence, right = p.max(axis=1), p.argmax(axis=1) == labels
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    gaps = [
        abs(confidence[bins == b].mean() - right[bins == b].mean()) * (bins == b).mean()
        for b in np.unique(bins)
    ]
    return float(sum(gaps))


def importances(brain: Brain) -> str:
    ranked = sorted(zip(brain.trees.importances(), FEATURES, strict=True), reverse=True)
    return "\n".join(f"{name:20} {share:.3f}" for share, name in ranked)


def sample_prediction(brain: Brain) -> str:
    p = brain.calibrated(Scenario("", NO_ACTION, SAMPLE).row()[np.newaxis])[0]
    best = int(p.argmax())
    prediction = {
        "recommended_action": CLASSES[best],
        "confidence": round(float(p[best]), 4),
        "probabilities": {c: round(float(v), 4) for c, v in zip(CLASSES, p, strict=True)},
    }
    return f"Input: {json.dumps(SAMPLE, indent=2)}\nPrediction: {json.dumps(prediction, indent=2)}"


def confusion(scores: Scores) -> str:
    matrix = confusion_matrix(scores.labels, scores.calibrated.argmax(axis=1))
    rows = [[f"**{c}**", *map(str, line)] for c, line in zip(CLASSES, matrix, strict=True)]
    return table(["is \\ said", *CLASSES], rows)


def calibration(brain: Brain, scores: Scores) -> str:
    kinds = [("as the trees say", scores.raw)]
    if brain.calibration:
        kinds.append(("calibrated", scores.calibrated))
    errors = [
        [k, f"{calibration_error(p, scores.labels):.4f}", f"{brier(p, scores.labels):.4f}"]
        for k, p in kinds
    ]
    measured = table(["probabilities", "ECE", "Brier"], errors)
    if not brain.calibration:
        return f"Boosted trees are fitted to probabilities: they have no calibration.\n\n{measured}"
    numbers = [
        [c, f"{a:.4f}", f"{b:.4f}"]
        for c, a, b in zip(CLASSES, brain.calibration.a, brain.calibration.b, strict=True)
    ]
    formula = "p_k = 1 / (1 + exp(a_k·f_k + b_k)) of the forest's f_k, then normalised."
    return "\n\n".join((formula, measured, table(["class", "a", "b"], numbers)))


def families(test: Dataset, scores: Scores) -> str:
    right = scores.calibrated.argmax(axis=1) == test.labels
    rows = [
        [f.name, f"{f.share:.0%}", f"{right[test.family == i].mean():.2%}", f.meaning]
        for i, f in enumerate(FAMILIES)
    ]
    return table(["family", "share", "accuracy", "what it is"], rows)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def fenced(text: str) -> str:
    return f"```\n{text.rstrip()}\n```"


def render(made: Made, test: Dataset, lab: str) -> str:
    brain, provenance = made.brain, made.provenance
    scores = Scores.of(brain, test)
    checks = table(["check", "outcome"], [[r.name, r.outcome] for r in made.results])
    return f"""# Report card of healing_brain.onnx

Written by `cargo xtask train`; do not edit.

**What was recorded, and what was not.** `data/` holds real faults in real processes on a real
kernel, seen by the agent's own code and labelled by what helped ([data/README.md](data/README.md)).
One program is ours and twelve are foreign; the faults are ours, and the machine is one. The first
scores below are of programs that the model has not learnt from, the others of episodes that it has
not seen. Beside them it learns synthetic rows (`generate.py`), which hold it to the known decision
surface. How the whole agent does among foreign programs, with each failure and what would have told
it apart, is in [docs/benchmarks.md](../docs/benchmarks.md#among-strangers).

- trained {provenance["trained_at"]} on {machine()}
- {brain.trees.describe()}, {brain.trees.node_count():,} nodes; {len(made.model):,} bytes
- SHA-256 `{made.sha256()}`

## Provenance
{fenced(json.dumps(provenance, indent=2))}

{lab}

## Synthetic rows
Scores on {len(test.labels):,} held-out rows: how well the model repeats the written policy.

{fenced(scores.classification())}

{confusion(scores)}

### By family
{families(test, scores)}

## Calibration on synthetic rows
ECE over {BINS} bins of the verdict's confidence; Brier summed over classes.

{calibration(brain, scores)}

## Feature importances
{fenced(importances(brain))}

`uptime` and `hour_of_day` are hidden from the model: they may not decide.

## Checks
Training fails, and writes nothing, if one of these does not hold.

{checks}

## Sample prediction
{fenced(sample_prediction(brain))}
"""
