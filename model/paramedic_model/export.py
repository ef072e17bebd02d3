"""The forest as an ONNX file that tract, ONNX Runtime and the agent's own forest all read."""

import json
from typing import Any

import numpy as np
import onnx
import onnxruntime
from google.protobuf.message import DecodeError
from numpy.typing import NDArray
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType

from paramedic_model.brain import Brain
from paramedic_model.familiar import Familiarity
from paramedic_model.schema import CLASSES, FEATURES, VERSION

OPSETS = {"": 18, "ai.onnx.ml": 3}
BATCH = "N"


def to_model(brain: Brain, known: Familiarity, provenance: dict[str, Any]) -> onnx.ModelProto:
    model: onnx.ModelProto = to_onnx(
        brain.forest,
        initial_types=[("features", FloatTensorType([None, len(FEATURES)]))],
        options={"zipmap": False},
        target_opset=OPSETS,
    )
    dedupe_opsets(model)
    name_batch(model)
    fill_hitrates(model, brain)
    onnx.helper.set_model_props(model, metadata(brain, known, provenance))
    onnx.checker.check_model(model)
    return model


def metadata(brain: Brain, known: Familiarity, provenance: dict[str, Any]) -> dict[str, str]:
    calibration = {"a": brain.calibration.a.tolist(), "b": brain.calibration.b.tolist()}
    return {
        "feature_schema_version": str(VERSION),
        "feature_names": json.dumps(FEATURES),
        "class_labels": json.dumps(CLASSES),
        "calibration": json.dumps(calibration),
        "familiarity": json.dumps(known.written()),
        "provenance": json.dumps(provenance),
    }


def dedupe_opsets(model: onnx.ModelProto) -> None:
    """skl2onnx writes the default domain twice."""
    versions = {o.domain: o.version for o in model.opset_import}
    del model.opset_import[:]
    model.opset_import.extend(onnx.helper.make_opsetid(d, v) for d, v in versions.items())


def name_batch(model: onnx.ModelProto) -> None:
    """An unnamed dimension cannot be resolved by tract."""
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = BATCH


def fill_hitrates(model: onnx.ModelProto, brain: Brain) -> None:
    """How many training rows passed each node, for TreeSHAP; skl2onnx writes 1 everywhere."""
    (node,) = (n for n in model.graph.node if n.op_type == "TreeEnsembleClassifier")
    attributes = {a.name: a for a in node.attribute}
    trees = [e.tree_ for e in brain.forest.estimators_]
    order = list(
        zip(attributes["nodes_treeids"].ints, attributes["nodes_nodeids"].ints, strict=True)
    )
    if order != [(t, i) for t, tree in enumerate(trees) for i in range(tree.node_count)]:
        raise ValueError("skl2onnx changed its node order: match hit rates by node id")
    hitrates = np.concatenate([t.weighted_n_node_samples for t in trees])
    attributes["nodes_hitrates"].floats[:] = hitrates.tolist()


def properties(model: bytes) -> dict[str, str]:
    """A file's metadata; a `ValueError` if it is no ONNX file."""
    try:
        props = onnx.load_from_string(model).metadata_props
    except DecodeError as error:
        raise ValueError(f"not an ONNX file: {error}") from error
    return {p.key: p.value for p in props}


def run(model: bytes, rows: NDArray[np.float32]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Labels and raw probabilities of `rows` from ONNX Runtime."""
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    labels, probabilities = session.run(None, {"features": rows})
    return labels, probabilities
