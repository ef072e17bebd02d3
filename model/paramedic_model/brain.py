"""The forest and its calibration: what scikit-learn, the ONNX file and the agent must agree on."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold

from paramedic_model.generate import Ints
from paramedic_model.schema import CLASSES, FEATURES

TREES: Final = 80
DEPTH: Final = 10
FOLDS: Final = 5

# What may not decide is not shown: no tree splits on a column that is always the same.
HIDDEN: Final = tuple(FEATURES.index(name) for name in ("uptime", "hour_of_day"))

Rows = NDArray[np.float32]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Calibration:
    """p_k = 1 / (1 + exp(a_k·f_k + b_k)) of the forest's f_k, then normalised to sum 1."""

    a: Floats
    b: Floats

    def apply(self, raw: Floats) -> Floats:
        p: Floats = 1.0 / (1.0 + np.exp(self.a * raw + self.b))
        p /= p.sum(axis=1, keepdims=True)
        return p


@dataclass(frozen=True)
class Brain:
    """A fitted forest with its calibration."""

    forest: RandomForestClassifier
    calibration: Calibration

    def raw(self, rows: Rows) -> Floats:
        p: Floats = self.forest.predict_proba(rows)
        return p

    def calibrated(self, rows: Rows) -> Floats:
        return self.calibration.apply(self.raw(rows))

    def shares(self, rows: Rows) -> Floats:
        """Each column's share in each raw class probability, by path attribution: (row, column,
        class)."""
        shares = np.zeros((len(rows), len(FEATURES), len(CLASSES)))
        for estimator in self.forest.estimators_:
            tree = estimator.tree_
            paths = tree.decision_path(rows)
            for i in range(len(rows)):
                path = paths.indices[paths.indptr[i] : paths.indptr[i + 1]]
                change = np.diff(tree.value[path, 0], axis=0)
                np.add.at(shares[i], tree.feature[path[:-1]], change)
        return shares / len(self.forest.estimators_)

    def node_count(self) -> int:
        return sum(e.tree_.node_count for e in self.forest.estimators_)


def fit(rows: Rows, labels: Ints, groups: Ints, seed: int, tell: Callable[[str], None]) -> Brain:
    """One forest on all rows; its calibration from what FOLDS other forests said of the rows that
    each did not see, nor others of their groups."""
    rows = rows.copy()
    rows[:, HIDDEN] = 0.0
    unseen = np.zeros((len(rows), len(CLASSES)))
    folds = StratifiedGroupKFold(FOLDS).split(rows, labels, groups)
    for fold, (learn, held) in enumerate(folds, start=1):
        tell(f"forest {fold} of {FOLDS}, to calibrate on")
        unseen[held] = fit_forest(rows[learn], labels[learn], seed).predict_proba(rows[held])
    tell("the forest to keep")
    return Brain(fit_forest(rows, labels, seed), fit_calibration(unseen, labels))


def fit_forest(rows: Rows, labels: Ints, seed: int) -> RandomForestClassifier:
    forest = RandomForestClassifier(
        n_estimators=TREES,
        max_depth=DEPTH,
        min_samples_leaf=10,
        # The policy is a list of conditions: a split needs most of the columns to choose from.
        max_features=0.7,
        # No class weights: they make a forest over-confident, and confidence is a gate.
        class_weight=None,
        n_jobs=-1,
        random_state=seed,
    ).fit(rows, labels)
    # Threads add up the trees in any order, which changes the last bits of a prediction.
    return forest.set_params(n_jobs=1)


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
