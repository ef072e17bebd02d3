"""The ONNX file: it says what scikit-learn says, and what the agent asks of it."""

import json

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from paramedic_model import checks, export
from paramedic_model.brain import Brain, Calibration
from paramedic_model.checks import PARITY, CheckFailed
from paramedic_model.export import BATCH
from paramedic_model.familiar import Familiarity
from paramedic_model.forest import OPSETS, TREES, Forest
from paramedic_model.generate import Dataset
from paramedic_model.schema import CLASSES, FEATURES, VERSION
from paramedic_model.trees import ensemble

Rows = NDArray[np.float32]


def random_rows(n: int) -> Rows:
    """Rows of any sort: no family, no order between the columns."""
    rng = np.random.default_rng(3)
    scale = 10.0 ** rng.uniform(-4, 6, (n, len(FEATURES)))
    rows: Rows = (scale * rng.choice([0, 1, 1, -1], scale.shape)).astype(np.float32)
    return rows


@pytest.fixture(scope="module")
def proto(model: bytes) -> onnx.ModelProto:
    return onnx.load_from_string(model)


def test_onnx_runtime_says_what_scikit_learn_says(
    brain: Brain, model: bytes, unseen: Dataset
) -> None:
    rows = np.concatenate([random_rows(2000), unseen.rows])
    rows = np.concatenate([rows, checks.threshold_rows(brain, rows, 1)])
    labels, probabilities = export.run(model, rows)
    assert np.abs(probabilities - brain.raw(rows)).max() <= PARITY
    assert set(labels.tolist()) == {0, 1, 2}
    assert "no label differs" in checks.check_parity(brain, (labels, probabilities), rows).outcome


def test_rows_on_a_threshold_would_betray_another_comparison(
    brain: Brain, model: bytes, unseen: Dataset
) -> None:
    """Had the export turned ≤ into <, these rows would fall to the other side."""
    on = checks.threshold_rows(brain, unseen.rows, 1)
    below = np.nextafter(on, np.float32(np.inf))
    labels_and_probabilities = export.run(model, below)
    with pytest.raises(CheckFailed, match="differs by more than"):
        checks.check_parity(brain, labels_and_probabilities, on)


def test_two_exports_are_the_same_bytes(brain: Brain, known: Familiarity, model: bytes) -> None:
    again = export.to_model(brain, known, {"why": "a test"})
    assert again.SerializeToString(deterministic=True) == model


def test_the_metadata_is_what_the_agent_reads(calibration: Calibration, model: bytes) -> None:
    found = export.properties(model)
    assert found.keys() == {
        "feature_schema_version",
        "feature_names",
        "class_labels",
        "familiarity",
        "calibration",
        "provenance",
    }
    assert found["feature_schema_version"] == str(VERSION)
    assert json.loads(found["feature_names"]) == list(FEATURES)
    assert json.loads(found["class_labels"]) == list(CLASSES)
    assert json.loads(found["provenance"]) == {"why": "a test"}
    assert json.loads(found["calibration"]) == {
        "a": calibration.a.tolist(),
        "b": calibration.b.tolist(),
    }


def test_each_entry_of_the_metadata_is_there_once(proto: onnx.ModelProto) -> None:
    keys = [p.key for p in proto.metadata_props]
    assert len(keys) == len(set(keys))


def test_the_graph_is_one_that_tract_reads(proto: onnx.ModelProto) -> None:
    versions = {o.domain: o.version for o in proto.opset_import}
    assert len(proto.opset_import) == len(versions)
    assert versions.keys() == OPSETS.keys()
    assert all(version <= OPSETS[domain] for domain, version in versions.items())
    (features,) = proto.graph.input
    batch, columns = features.type.tensor_type.shape.dim
    assert batch.dim_param == BATCH
    assert columns.dim_value == len(FEATURES)
    for output in proto.graph.output:
        assert output.type.tensor_type.shape.dim[0].dim_param == BATCH


def test_hit_rates_are_the_rows_that_passed_each_node(
    brain: Brain, proto: onnx.ModelProto, learnt: Dataset
) -> None:
    assert isinstance(brain.trees, Forest)
    found = ensemble(proto)
    hits = np.array(found["nodes_hitrates"].floats)
    assert len(hits) == brain.trees.node_count()
    tree, node = np.array(found["nodes_treeids"].ints), np.array(found["nodes_nodeids"].ints)
    assert len(np.unique(tree)) == TREES
    assert (hits[node == 0] == len(learnt.rows)).all()
    for t, estimator in enumerate(brain.trees.model.estimators_[:5]):
        expected = estimator.tree_.weighted_n_node_samples
        assert (hits[tree == t] == expected.astype(np.float32)).all()


@pytest.mark.parametrize("junk", [b"no model", b"\xff" * 100])
def test_what_is_no_onnx_file_is_refused(junk: bytes) -> None:
    with pytest.raises(ValueError, match="not an ONNX file"):
        export.properties(junk)


def test_an_empty_file_has_no_metadata() -> None:
    assert export.properties(b"") == {}
