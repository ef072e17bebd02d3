"""A model of either kind, and the calibration of the forest."""

import numpy as np
import pytest
from numpy.typing import NDArray

from paramedic_model import brain as brains
from paramedic_model.brain import HIDDEN, Brain, Calibration
from paramedic_model.forest import DEPTH, TREES, Forest
from paramedic_model.generate import Dataset, Ints
from paramedic_model.report import brier, calibration_error
from paramedic_model.schema import CLASSES, FEATURES, NO_ACTION


@pytest.mark.parametrize("kind", ["brain", "boosted"])
def test_probabilities_are_probabilities(
    kind: str, request: pytest.FixtureRequest, unseen: Dataset
) -> None:
    brain: Brain = request.getfixturevalue(kind)
    for p in (brain.raw(unseen.rows), brain.calibrated(unseen.rows)):
        assert p.shape == (len(unseen.rows), len(CLASSES))
        assert p.min() >= 0
        assert p.sum(axis=1) == pytest.approx(1)


def test_the_forest_has_the_size_that_the_agent_accepts(brain: Brain) -> None:
    assert isinstance(brain.trees, Forest)
    trees = [e.tree_ for e in brain.trees.model.estimators_]
    assert brain.trees.count() == len(trees) == TREES
    assert max(tree.max_depth for tree in trees) <= DEPTH
    assert brain.trees.node_count() == sum(tree.node_count for tree in trees)


@pytest.mark.parametrize("kind", ["brain", "boosted"])
def test_the_hour_and_the_uptime_do_not_decide(
    kind: str, request: pytest.FixtureRequest, unseen: Dataset
) -> None:
    brain: Brain = request.getfixturevalue(kind)
    rows = unseen.rows[:200]
    ways = [way for t in range(brain.trees.count()) for way in brain.trees.ways(t, rows)]
    used = {int(i) for columns, _ in ways for i in columns}
    assert used.isdisjoint(HIDDEN)
    assert "error_count" in {FEATURES[i] for i in used}
    moved = unseen.rows.copy()
    moved[:, HIDDEN] = 1e6
    assert (brain.raw(moved) == brain.raw(unseen.rows)).all()


def test_the_same_rows_and_seed_give_the_same_forest(learnt: Dataset) -> None:
    rows, labels = learnt.rows[:500], learnt.labels[:500]
    groups = np.arange(500) % 20
    first, second = (brains.fit_forest(rows, labels, groups, 7, lambda _: None) for _ in range(2))
    assert (first.raw(rows) == second.raw(rows)).all()
    assert first.calibration
    assert second.calibration
    assert (first.calibration.a == second.calibration.a).all()
    assert (first.calibration.b == second.calibration.b).all()


def test_shares_add_up_to_what_the_forest_says(brain: Brain, unseen: Dataset) -> None:
    assert isinstance(brain.trees, Forest)
    rows = unseen.rows[:50]
    roots = np.mean([e.tree_.value[0, 0] for e in brain.trees.model.estimators_], axis=0)
    assert brain.trees.shares(rows).sum(axis=1) + roots == pytest.approx(brain.raw(rows))


# --- Calibration ----------------------------------------------------------------------------


def test_calibration_is_fitted_on_rows_that_its_forest_did_not_see(
    learnt: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor on others of their groups: rows of one episode are alike."""
    rows = learnt.rows[:400].copy()
    # A column that nothing hides carries the group to where the forests are fitted.
    groups = np.arange(400) // 20
    rows[:, 0] = groups
    seen: list[set[float]] = []
    asked: list[set[float]] = []

    class Spy:
        def raw(self, x: NDArray[np.float32]) -> NDArray[np.float64]:
            asked.append(set(x[:, 0].tolist()))
            return np.full((len(x), len(CLASSES)), 1 / len(CLASSES))

    def fit(x: NDArray[np.float32], _labels: Ints, _seed: int) -> Spy:
        seen.append(set(x[:, 0].tolist()))
        return Spy()

    monkeypatch.setattr(Forest, "fit", fit)
    monkeypatch.setattr(brains, "fit_calibration", lambda *_: Calibration(-np.ones(3), np.zeros(3)))
    brains.fit_forest(rows, learnt.labels[:400], groups, 7, lambda _: None)
    everything = set(groups.tolist())
    assert len(asked) == brains.FOLDS
    assert all(a.isdisjoint(s) for a, s in zip(asked, seen, strict=False))
    assert set().union(*asked) == everything
    # The one to keep has seen all.
    assert seen[-1] == everything


def test_calibration_makes_confidence_honest(brain: Brain, unseen: Dataset) -> None:
    raw, calibrated = brain.raw(unseen.rows), brain.calibrated(unseen.rows)
    before, after = (calibration_error(p, unseen.labels) for p in (raw, calibrated))
    assert after < 0.02
    assert after < before
    assert brier(calibrated, unseen.labels) < brier(raw, unseen.labels)


def test_calibration_finds_the_sigmoid_that_drew_the_labels() -> None:
    rng = np.random.default_rng(5)
    raw = rng.uniform(0, 1, (60_000, len(CLASSES)))
    truth = Calibration(np.array([-6.0, -4.0, -8.0]), np.array([3.0, 2.5, 4.0]))
    for k in range(len(CLASSES)):
        chance = 1 / (1 + np.exp(truth.a[k] * raw[:, k] + truth.b[k]))
        other = (k + rng.integers(1, len(CLASSES), len(raw))) % len(CLASSES)
        labels = np.where(rng.random(len(raw)) < chance, k, other)
        found = brains.fit_calibration(raw, labels)
        assert found.a[k] == pytest.approx(truth.a[k], rel=0.05)
        assert found.b[k] == pytest.approx(truth.b[k], rel=0.05)


def test_calibration_keeps_the_order_within_a_class(calibration: Calibration) -> None:
    assert (calibration.a < 0).all()
    rising = np.linspace(0, 1, 50)
    raw = np.stack([rising, (1 - rising) / 2, (1 - rising) / 2], axis=1)
    p = calibration.apply(raw)[:, NO_ACTION]
    assert (np.diff(p) > 0).all()


def test_coefficients_survive_the_agents_single_precision(calibration: Calibration) -> None:
    for values in (calibration.a, calibration.b):
        assert (values.astype(np.float32) == values).all()


def test_without_a_calibration_scores_are_scaled_to_a_sum_of_one() -> None:
    p = brains.probabilities(np.array([[3.0, 1.0, 0.0]]), None)
    assert p.tolist() == [[0.75, 0.25, 0.0]]
