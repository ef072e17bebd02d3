"""Boosted trees: their file says what XGBoost says, and is explained as XGBoost explains."""

import numpy as np
import onnx
import pytest
from xgboost import DMatrix

from paramedic_model import brain as brains
from paramedic_model import checks, export, golden
from paramedic_model.boosted import DEPTH, ROUNDS, Boosted, Tree
from paramedic_model.brain import Brain
from paramedic_model.checks import PARITY, CheckFailed
from paramedic_model.familiar import Familiarity
from paramedic_model.generate import Dataset
from paramedic_model.schema import CLASSES, FEATURES
from paramedic_model.train import SEED
from paramedic_model.trees import ensemble
from tests.test_export import random_rows


@pytest.fixture(scope="module")
def trees(boosted: Brain) -> Boosted:
    assert isinstance(boosted.trees, Boosted)
    return boosted.trees


@pytest.fixture(scope="module")
def file(boosted: Brain, known: Familiarity) -> bytes:
    return export.to_model(boosted, known, {}).SerializeToString(deterministic=True)


def test_onnx_runtime_says_what_xgboost_says(boosted: Brain, file: bytes, unseen: Dataset) -> None:
    rows = np.concatenate([random_rows(2000), unseen.rows])
    rows = np.concatenate([rows, checks.threshold_rows(boosted, rows, 1)])
    result = checks.check_parity(boosted, export.run(file, rows), rows)
    assert result.name == "ONNX Runtime against XGBoost"
    assert "no label differs" in result.outcome


def test_rows_on_a_threshold_would_betray_another_comparison(
    boosted: Brain, file: bytes, unseen: Dataset
) -> None:
    """Had the export turned < into ≤, these rows would fall to the other side."""
    on = checks.threshold_rows(boosted, unseen.rows, 1)
    above = np.nextafter(on, np.float32(np.inf))
    with pytest.raises(CheckFailed, match="differs by more than"):
        checks.check_parity(boosted, export.run(file, above), on)


def test_there_is_no_calibration_to_apply(boosted: Brain, file: bytes, unseen: Dataset) -> None:
    assert golden.read_calibration(file) is None
    raw = boosted.raw(unseen.rows)
    assert boosted.calibrated(unseen.rows) == pytest.approx(raw, abs=1e-6)


def test_the_same_rows_and_seed_give_the_same_file(learnt: Dataset, known: Familiarity) -> None:
    def made() -> bytes:
        brain = brains.fit_boosted(learnt.rows[:500], learnt.labels[:500], SEED)
        return export.to_model(brain, known, {}).SerializeToString(deterministic=True)

    assert made() == made()


def test_the_size_is_bounded(trees: Boosted, file: bytes) -> None:
    assert trees.count() == ROUNDS * len(CLASSES)
    assert trees.node_count() <= trees.count() * 2 ** (DEPTH + 1)
    assert len(file) < 3_000_000
    assert max(sum(1 for _ in t.steps(random_rows(100))) for t in trees.trees) <= DEPTH


def test_the_file_is_one_that_the_agent_reads(trees: Boosted, file: bytes) -> None:
    """A bare ensemble of this form is what crates/core/src/decide compiles."""
    model = onnx.load_from_string(file)
    assert [n.op_type for n in model.graph.node] == ["TreeEnsembleClassifier"]
    found = ensemble(model)
    assert found["post_transform"].s == b"SOFTMAX"
    assert set(found["nodes_modes"].strings) == {b"BRANCH_LT", b"LEAF"}
    assert list(found["classlabels_int64s"].ints) == [0, 1, 2]
    assert len(found["base_values"].floats) == len(CLASSES)
    covers = np.array(found["nodes_hitrates"].floats)
    assert len(covers) == trees.node_count()
    assert covers.min() > 0


def test_shares_add_up_to_the_margins(trees: Boosted, file: bytes, unseen: Dataset) -> None:
    rows = unseen.rows[:50]
    roots = np.zeros(len(CLASSES))
    for number, tree in enumerate(trees.trees):
        roots[number % len(CLASSES)] += tree.value[0]
    base = np.array(ensemble(onnx.load_from_string(file))["base_values"].floats)
    margins = trees.model.predict(rows, output_margin=True)
    assert trees.shares(rows).sum(axis=1) + roots + base == pytest.approx(margins, abs=1e-5)


def test_means_of_branches_are_those_of_xgboost(
    trees: Boosted, file: bytes, unseen: Dataset
) -> None:
    """The last of its contributions is what it expects of a row that it knows nothing of."""
    rows = DMatrix(unseen.rows[:1])
    bias = trees.model.get_booster().predict(rows, pred_contribs=True)[0, :, -1]
    base = np.array(ensemble(onnx.load_from_string(file))["base_values"].floats)
    means = [sum(t.value[0] for t in trees.trees[k :: len(CLASSES)]) for k in range(len(CLASSES))]
    assert base + means == pytest.approx(bias, abs=1e-5)


def test_a_tree_without_a_split_moves_no_row() -> None:
    lone = Tree.of({"nodeid": 0, "leaf": 0.5, "cover": 3.0})
    rows = np.zeros((2, len(FEATURES)), dtype=np.float32)
    assert list(lone.steps(rows)) == []
    assert lone.value.tolist() == [0.5]


def test_parity_is_lost_with_another_threshold(
    boosted: Brain, file: bytes, unseen: Dataset
) -> None:
    model = onnx.load_from_string(file)
    found = ensemble(model)
    root = found["nodes_values"].floats[0]
    found["nodes_values"].floats[0] = root * 2
    labels, scores = export.run(model.SerializeToString(), unseen.rows)
    assert np.abs(scores - boosted.raw(unseen.rows)).max() > PARITY
    with pytest.raises(CheckFailed, match="differs by more than"):
        checks.check_parity(boosted, (labels, scores), unseen.rows)
