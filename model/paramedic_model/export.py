"""A model as an ONNX file that ONNX Runtime and the agent's own forest read."""

import json
from typing import Any

import numpy as np
import onnx
import onnxruntime
from google.protobuf.message import DecodeError
from numpy.typing import NDArray

from paramedic_model.brain import Brain
from paramedic_model.familiar import Familiarity
from paramedic_model.schema import CLASSES, FEATURES, VERSION
from paramedic_model.trees import INPUT

BATCH = "N"


def to_model(brain: Brain, known: Familiarity, provenance: dict[str, Any]) -> onnx.ModelProto:
    model = brain.trees.to_onnx()
    dedupe_opsets(model)
    name_batch(model)
    onnx.helper.set_model_props(model, metadata(brain, known, provenance))
    onnx.checker.check_model(model)
    return model


def metadata(brain: Brain, known: Familiarity, provenance: dict[str, Any]) -> dict[str, str]:
    metadata = {
        "feature_schema_version": str(VERSION),
        "feature_names": json.dumps(FEATURES),
        "class_labels": json.dumps(CLASSES),
        "familiarity": json.dumps(known.written()),
        "provenance": json.dumps(provenance),
    }
    if brain.calibration:
        calibration = {"a": brain.calibration.a.tolist(), "b": brain.calibration.b.tolist()}
        metadata["calibration"] = json.dumps(calibration)
    return metadata


def dedupe_opsets(model: onnx.ModelProto) -> None:
    """skl2onnx writes the default domain twice."""
    versions = {o.domain: o.version for o in model.opset_import}
    del model.opset_import[:]
    model.opset_import.extend(onnx.helper.make_opsetid(d, v) for d, v in versions.items())


def name_batch(model: onnx.ModelProto) -> None:
    """An unnamed dimension cannot be resolved by tract."""
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = BATCH


def properties(model: bytes) -> dict[str, str]:
    """A file's metadata; a `ValueError` if it is no ONNX file."""
    try:
        props = onnx.load_from_string(model).metadata_props
    except DecodeError as error:
        raise ValueError(f"not an ONNX file: {error}") from error
    return {p.key: p.value for p in props}


def run(model: bytes, rows: NDArray[np.float32]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Labels and scores of `rows` from ONNX Runtime."""
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    labels, probabilities = session.run(None, {INPUT: rows})
    return labels, probabilities
