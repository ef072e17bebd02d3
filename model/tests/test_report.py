"""Scores and drawings: known values, and files that can be read."""

from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import pytest

from paramedic_model import lab_report, plots, report
from paramedic_model.brain import Brain
from paramedic_model.lab_report import Judged, Trial
from paramedic_model.recorded import Data
from paramedic_model.schema import CLASSES

SURE = np.eye(3)


def test_brier_goes_from_right_to_certainly_wrong() -> None:
    assert report.brier(SURE, np.array([0, 1, 2])) == 0
    assert report.brier(SURE, np.array([1, 2, 0])) == 2
    assert report.brier(np.full((1, 3), 1 / 3), np.array([0])) == pytest.approx(2 / 3)


def test_calibration_error_is_what_confidence_promises_too_much() -> None:
    p = np.tile([0.8, 0.1, 0.1], (10, 1))
    eight_of_ten = np.array([0] * 8 + [1] * 2)
    assert report.calibration_error(p, eight_of_ten) == pytest.approx(0)
    assert report.calibration_error(p, np.zeros(10, dtype=np.int64)) == pytest.approx(0.2)
    assert report.calibration_error(SURE, np.array([1, 2, 0])) == 1


def test_too_much_confidence_in_one_place_is_not_made_up_for_in_another() -> None:
    p = np.array([[0.95, 0.05, 0]] * 10 + [[0.85, 0.15, 0]] * 10)
    right_and_wrong = np.array([0] * 10 + [0] * 8 + [1] * 2)
    assert report.calibration_error(p, right_and_wrong) == pytest.approx(0.05)


def test_a_table_is_markdown() -> None:
    assert report.table(["a", "b"], [["1", "2"]]) == "| a | b |\n| --- | --- |\n| 1 | 2 |"


def judged(f1: float) -> Judged:
    return Judged(SURE, f1, f1)


def test_a_model_is_worse_only_beyond_the_tolerance(shipped: Data) -> None:
    def trial(new: float, old: Judged | None) -> Trial:
        made = judged(new)
        return Trial(shipped.held_out, {}, made, made, made, old, "")

    assert trial(0.890, judged(0.893)).is_worse(0.002)
    assert not trial(0.892, judged(0.893)).is_worse(0.002)
    assert not trial(0.1, None).is_worse(0.002)


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"no model", "not an ONNX file"), (b"", "it was trained on other columns")],
)
def test_an_old_model_that_cannot_be_read_is_named(
    content: bytes, reason: str, shipped: Data
) -> None:
    path = Path("old.onnx")
    with pytest.raises(ValueError, match=rf"old\.onnx cannot be compared: {reason}"):
        lab_report.said_by(path, content, shipped.held_out.rows)


def test_only_a_sure_verdict_is_acted_on() -> None:
    p = np.array([[0.9, 0.1, 0.0], [0.1, 0.9, 0.0], [0.3, 0.7, 0.0], [0.1, 0.1, 0.8]])
    assert lab_report.needs_a_remedy(p).tolist() == [False, True, False, True]


def test_each_kind_is_drawn_as_a_picture(brain: Brain, shipped: Data) -> None:
    drawn = dict(plots.draw_all(brain, shipped.as_recorded))
    assert drawn.keys() == set(shipped.as_recorded.kind.tolist())
    for kind, drawing in drawn.items():
        root = ET.fromstring(drawing)
        assert root.tag.endswith("svg"), kind
        text = " ".join(root.itertext())
        assert kind in text
        assert all(f"decides {name}" in text for name in CLASSES[1:])
