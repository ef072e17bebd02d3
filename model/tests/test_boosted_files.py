"""The agent's small boosted trees: still what the libraries write, and what their rows say."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from paramedic_model import export
from paramedic_model.trees import ensemble
from tests import boosted_files
from tests.boosted_files import CLOSE, FOLDER

NAMES = ("xgboost", "lightgbm", "explained")


@pytest.fixture(scope="module")
def again(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("boosted")
    boosted_files.write(folder)
    return folder


def told(folder: Path, name: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads((folder / "golden.json").read_text("utf-8"))[name]
    return rows


@pytest.mark.parametrize("name", NAMES)
def test_a_converter_still_writes_such_a_file(name: str, again: Path) -> None:
    """The numbers may differ in their last bits where the processor is another."""
    old, new = (onnx.load(folder / f"{name}.onnx") for folder in (FOLDER, again))
    assert [n.op_type for n in new.graph.node] == [n.op_type for n in old.graph.node]
    found, expected = ensemble(new), ensemble(old)
    assert found.keys() == expected.keys()
    for column in ("nodes_modes", "nodes_treeids", "nodes_featureids", "class_ids"):
        values = [onnx.helper.get_attribute_value(a[column]) for a in (found, expected)]
        assert values[0] == values[1], column
    assert found["post_transform"].s == expected["post_transform"].s == b"SOFTMAX"


@pytest.mark.parametrize("name", NAMES)
def test_a_file_repeats_its_rows(name: str) -> None:
    rows = told(FOLDER, name)
    features = np.array([row["features"] for row in rows], dtype=np.float32)
    scores = export.run((FOLDER / f"{name}.onnx").read_bytes(), features)[1]
    assert np.abs(scores - [row["scores"] for row in rows]).max() <= CLOSE
