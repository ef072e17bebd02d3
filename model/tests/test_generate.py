"""The synthetic rows: what every one of them obeys, and that they stay the same."""

import hashlib

import numpy as np
import pytest
from numpy.typing import NDArray

from paramedic_model import generate
from paramedic_model.checks import SURFACE_CONTEXTS, surface_actions, surface_rows
from paramedic_model.generate import FAMILIES, UPTIME_MAX_S, VERSION, Columns, Dataset
from paramedic_model.schema import CLASSES, FEATURES, NO_ACTION

# One line for each version that was ever trained on: other rows need another number.
DIGESTS = {3: "3a32ba818cbbe1ef"}


@pytest.fixture(scope="module")
def columns(learnt: Dataset) -> Columns:
    return generate.to_columns(learnt.rows)


def within(values: NDArray[np.float64], low: float, high: float) -> bool:
    return bool(((values >= low) & (values <= high)).all())


def whole(values: NDArray[np.float64]) -> bool:
    return bool((values == np.floor(values)).all())


def test_the_same_seed_gives_the_same_rows_and_another_others(learnt: Dataset) -> None:
    again = generate.generate(len(learnt.rows), 1)
    assert again.rows.tobytes() == learnt.rows.tobytes()
    assert again.labels.tolist() == learnt.labels.tolist()
    assert again.family.tolist() == learnt.family.tolist()
    assert generate.generate(len(learnt.rows), 3).rows.tobytes() != learnt.rows.tobytes()


def test_other_rows_have_another_version() -> None:
    rows = generate.generate(2000, 2026).rows
    digest = hashlib.sha256(rows.astype("<f4").tobytes()).hexdigest()[:16]
    assert digest == DIGESTS[VERSION], "raise VERSION in generate.py, and train"


def test_every_value_is_one_that_the_agent_could_measure(columns: Columns) -> None:
    assert columns.keys() == set(FEATURES)
    for name, values in columns.items():
        assert np.isfinite(values).all(), name
        assert values.min() >= 0, name
    for name in ("cpu_usage", "memory_usage"):
        assert within(columns[name], 0, 100), name
    for name in ("http_5xx_ratio", "cpu_throttled_ratio", "health_latency"):
        assert within(columns[name], 0, 1), name
    assert within(columns["uptime"], 0, UPTIME_MAX_S * 1.0001)
    assert within(columns["hour_of_day"], 0, 23)
    for name in ("error_count", "hour_of_day", "health_failures"):
        assert whole(columns[name]), name


def test_rates_and_ratio_tell_of_the_same_responses(columns: Columns) -> None:
    failed, all_ = columns["http_5xx_rate"], columns["http_request_rate"]
    assert (failed <= all_).all()
    some = all_ > 0
    assert columns["http_5xx_ratio"][some] == pytest.approx(failed[some] / all_[some], abs=1e-4)
    assert (columns["http_5xx_ratio"][~some] == 0).all()


def test_the_families_have_their_shares_and_every_class_occurs(learnt: Dataset) -> None:
    assert sum(f.share for f in FAMILIES) == pytest.approx(1)
    counts = np.bincount(learnt.family, minlength=len(FAMILIES)) / len(learnt.family)
    assert counts == pytest.approx([f.share for f in FAMILIES], abs=1e-3)
    assert (np.bincount(learnt.labels, minlength=len(CLASSES)) > len(learnt.labels) / 20).all()


@pytest.mark.parametrize("index", [i for i, f in enumerate(FAMILIES) if "leave alone" in f.meaning])
def test_what_is_to_be_left_alone_is_labelled_so(learnt: Dataset, index: int) -> None:
    assert (learnt.labels[learnt.family == index] == NO_ACTION).all()


def test_neither_the_hour_nor_the_uptime_changes_a_label(learnt: Dataset, columns: Columns) -> None:
    for name, value in (("hour_of_day", 3.0), ("uptime", 0.0), ("uptime", UPTIME_MAX_S)):
        moved = columns | {name: np.full(len(learnt.labels), value)}
        assert (generate.remedy(moved) == learnt.labels).all(), name


@pytest.mark.parametrize("context", SURFACE_CONTEXTS)
def test_the_policy_keeps_the_known_surface(context: dict[str, float]) -> None:
    rows = surface_rows(context)
    assert (generate.remedy(generate.to_columns(rows)) == surface_actions(rows)).all()
