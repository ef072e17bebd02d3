"""golden.json: what is written is repeated by its model and by no other."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from paramedic_model import golden
from paramedic_model.checks import CheckFailed
from paramedic_model.generate import Dataset
from paramedic_model.golden import RANDOM_ROWS, THRESHOLD_ROWS, TIE
from paramedic_model.report import Made
from paramedic_model.scenarios import SCENARIOS
from paramedic_model.schema import CLASSES, FEATURES
from paramedic_model.train import SEED

Golden = dict[str, Any]


@pytest.fixture
def written(made: Made, unseen: Dataset, tmp_path: Path) -> Golden:
    """Without scenarios: a small forest need not know them."""
    path = tmp_path / "golden.json"
    golden.write(path, made, unseen.rows, SEED)
    read: Golden = json.loads(path.read_text(encoding="utf-8"))
    assert len(read["scenarios"]) == len(SCENARIOS)
    return read | {"scenarios": read["scenarios"][:1]}


def test_a_model_repeats_its_own_rows(written: Golden, made: Made, model: bytes) -> None:
    assert written["model_sha256"] == made.sha256()
    assert written["feature_names"] == list(FEATURES)
    assert written["class_labels"] == list(CLASSES)
    assert len(written["rows"]) == RANDOM_ROWS + THRESHOLD_ROWS
    assert golden.check(model, written, "this").name == "this model against golden.json"


def test_no_row_is_near_a_tie(written: Golden) -> None:
    ranked = np.sort([row["calibrated"] for row in written["rows"]], axis=1)
    assert (ranked[:, -1] - ranked[:, -2]).min() > TIE


@pytest.mark.parametrize("key", ["raw", "calibrated"])
def test_another_probability_is_noticed(written: Golden, model: bytes, key: str) -> None:
    written["rows"][3][key][0] += 1e-3
    with pytest.raises(CheckFailed, match=r"that model is not the one of golden\.json"):
        golden.check(model, written, "that")


def test_another_verdict_in_a_scenario_is_noticed(written: Golden, model: bytes) -> None:
    written["scenarios"][0]["action"] = "restart_service"
    with pytest.raises(CheckFailed, match="scenario “idle and healthy”"):
        golden.check(model, written, "that")


def test_each_row_is_a_line_of_its_own() -> None:
    text = golden.one_row_a_line({"a": "x", "rows": [{"f": [1.5, 2]}, {"f": []}]})
    assert text == '{\n"a": "x",\n"rows": [\n{"f": [1.5, 2]},\n{"f": []}\n]\n}\n'
    assert json.loads(text)["rows"][0]["f"] == [1.5, 2]
