"""A model and its calibration: what its library, the ONNX file and the agent must agree on."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold

from paramedic_model.boosted import Boosted
from paramedic_model.forest import Forest
from paramedic_model.schema import CLASSES, FEATURES
from paramedic_model.trees import Floats, Ints, Rows, Trees

FOLDS: Final = 5

# What may not decide is not shown: no tree splits on a column that is always the same.
HIDDEN: Final = tuple(FEATURES.index(name) for name in ("uptime", "hour_of_day"))


@dataclass(frozen=True)
class Calibration:
    """p_k = 1 / (1 + exp(a_k·f_k + b_k)) of the scores f_k, then normalised to sum 1."""

    a: Floats
    b: Floats

    def apply(self, raw: Floats) -> Floats:
        return normalise(1.0 / (1.0 + np.exp(self.a * raw + self.b)))


def probabilities(raw: Floats, calibration: Calibration | None) -> Floats:
    """What the agent makes of the scores of a model, which may have no calibration."""
    return calibration.apply(raw) if calibration else normalise(raw)


def normalise(p: Floats) -> Floats:
    normal: Floats = p / p.sum(axis=1, keepdims=True)
    return normal


@dataclass(frozen=True)
class Brain:
    """Fitted trees with their calibration."""

    trees: Trees
    calibration: Calibration | None

    def raw(self, rows: Rows) -> Floats:
        return self.trees.raw(rows)

    def calibrated(self, rows: Rows) -> Floats:
        return probabilities(self.raw(rows), self.calibration)


def fit_forest(
    rows: Rows, labels: Ints, groups: Ints, seed: int, tell: Callable[[str], None]
) -> Brain:
    """One forest on all rows; its calibration from what FOLDS other forests said of the rows that
    each did not see, nor others of their groups."""
    rows = hide(rows)
    unseen = np.zeros((len(rows), len(CLASSES)))
    folds = StratifiedGroupKFold(FOLDS).split(rows, labels, groups)
    for fold, (learn, held) in enumerate(folds, start=1):
        tell(f"forest {fold} of {FOLDS}, to calibrate on")
        unseen[held] = Forest.fit(rows[learn], labels[learn], seed).raw(rows[held])
    tell("the forest to keep")
    return Brain(Forest.fit(rows, labels, seed), fit_calibration(unseen, labels))


def fit_boosted(rows: Rows, labels: Ints, seed: int) -> Brain:
    """Boosted trees without a calibration: they are fitted to the probabilities themselves, and a
    sigmoid on top of that makes their confidence worse."""
    return Brain(Boosted.fit(hide(rows), labels, seed), None)


def refit(brain: Brain, rows: Rows, labels: Ints, seed: int) -> Brain:
    """Trees of the same kind on other rows, with the same calibration."""
    return Brain(type(brain.trees).fit(hide(rows), labels, seed), brain.calibration)


def hide(rows: Rows) -> Rows:
    rows = rows.copy()
    rows[:, HIDDEN] = 0.0
    return rows


def fit_calibration(raw: Floats, labels: Ints) -> Calibration:
    """A sigmoid per class (Platt): logistic regression of "is it this class?" on f_k."""
    fits = [
        LogisticRegression(C=np.inf, tol=1e-8, max_iter=1000).fit(raw[:, [k]], labels == k)
        for k in range(len(CLASSES))
    ]
    a = np.array([-f.coef_[0, 0] for f in fits])
    b = np.array([-f.intercept_[0] for f in fits])
    # The agent computes with these in single precision.
    return Calibration(round_f32(a), round_f32(b))


def round_f32(values: Floats) -> Floats:
    return values.astype(np.float32).astype(np.float64)
