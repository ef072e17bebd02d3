"""The checks before a forest is written: each one can fail, and then says on which row."""

import numpy as np
import pytest
from numpy.typing import NDArray

from paramedic_model import checks, export
from paramedic_model.brain import Brain, Calibration
from paramedic_model.checks import CheckFailed
from paramedic_model.generate import Dataset
from paramedic_model.scenarios import SCENARIOS
from paramedic_model.schema import FEATURES, KERNEL_FEATURES, NO_ACTION, RESET_ERRORS

Rows = NDArray[np.float32]
Floats = NDArray[np.float64]


class Always(Brain):
    """Says the same of every row."""

    def __init__(self, brain: Brain, p: tuple[float, float, float]) -> None:
        super().__init__(brain.trees, brain.calibration)
        object.__setattr__(self, "p", p)

    def calibrated(self, rows: Rows) -> Floats:
        p: tuple[float, float, float] = vars(self)["p"]
        return np.tile(np.array(p), (len(rows), 1))


class ByTheClock(Brain):
    """Restarts at noon."""

    def calibrated(self, rows: Rows) -> Floats:
        noon = rows[:, FEATURES.index("hour_of_day")] == 12
        return np.where(noon[:, np.newaxis], [[0.0, 0.0, 1.0]], [[1.0, 0.0, 0.0]])


def test_a_forest_that_never_helps_fails_on_the_surface(brain: Brain) -> None:
    with pytest.raises(CheckFailed, match=r"decision surface: wrong verdict: \d+ of \d+ rows, e"):
        checks.check_surface(Always(brain, (1, 0, 0)))


def test_a_forest_that_never_helps_fails_in_a_scenario(brain: Brain) -> None:
    with pytest.raises(
        CheckFailed, match=r"scenario “6 errors, one a second”: no_action at 1\.000"
    ):
        checks.check_scenarios(Always(brain, (1, 0, 0)))


def test_a_forest_that_is_never_sure_fails_in_a_scenario(brain: Brain) -> None:
    with pytest.raises(CheckFailed, match=r"scenario “idle and healthy”: no_action at 0\.840"):
        checks.check_scenarios(Always(brain, (0.84, 0.16, 0)))


def test_a_forest_that_goes_by_the_clock_fails(brain: Brain, unseen: Dataset) -> None:
    clock = ByTheClock(brain.trees, brain.calibration)
    with pytest.raises(CheckFailed, match="verdict depends on the hour or the uptime"):
        checks.check_invariance(clock, unseen.rows[:10])


def test_a_forest_that_does_not_see_the_clock_passes(brain: Brain, unseen: Dataset) -> None:
    assert "no verdict changes" in checks.check_invariance(brain, unseen.rows[:10]).outcome


def test_parity_fails_on_a_probability_and_on_a_label(
    brain: Brain, model: bytes, unseen: Dataset
) -> None:
    rows = unseen.rows[:100]
    labels, probabilities = export.run(model, rows)
    off = probabilities.copy()
    off[7] += np.float32(1e-4)
    with pytest.raises(
        CheckFailed, match=r"differs by more than 2e-06: 1 of 100 rows, e\.g\. cpu_u"
    ):
        checks.check_parity(brain, (labels, off), rows)
    with pytest.raises(CheckFailed, match="another label"):
        checks.check_parity(brain, ((labels + 1) % 3, probabilities), rows)


def test_a_row_is_described_by_what_is_not_zero() -> None:
    row = np.zeros(len(FEATURES), dtype=np.float32)
    row[FEATURES.index("error_count")] = 7
    assert checks.describe(row) == "error_count=7"


def test_steps_lie_on_either_side_of_a_threshold() -> None:
    for threshold in (0.1, 5.5, 1e-9, 79.5, 123456.789):
        on, past = (checks.step(threshold, past=past) for past in (False, True))
        assert float(on) <= threshold < float(past)
        assert np.nextafter(on, np.float32(np.inf)) == past


@pytest.mark.parametrize("kind", ["brain", "boosted"])
def test_rows_moved_onto_thresholds_differ_in_one_column(
    kind: str, request: pytest.FixtureRequest, unseen: Dataset
) -> None:
    brain: Brain = request.getfixturevalue(kind)
    rows = unseen.rows[:200]
    moved = checks.threshold_rows(brain, rows, 1)
    assert ((moved != rows).sum(axis=1) <= 1).all()
    assert (moved != rows).any(axis=1).mean() > 0.9
    assert checks.threshold_rows(brain, rows, 1).tobytes() == moved.tobytes()


def test_scenarios_have_names_of_their_own_and_kernel_signs_where_they_must_lead() -> None:
    names = [s.name for s in SCENARIOS]
    assert len(names) == len(set(names))
    for scenario in SCENARIOS:
        assert scenario.signs.keys() <= set(FEATURES), scenario.name
        if scenario.kernel_first:
            assert scenario.action != NO_ACTION, scenario.name
            assert any(scenario.signs.get(name) for name in KERNEL_FEATURES), scenario.name


def test_the_surface_is_sure_away_from_its_edges_only() -> None:
    rows = np.zeros((4, len(FEATURES)), dtype=np.float32)
    rows[:, 0] = [50, 79, 80, 81]
    assert checks.must_be_sure(rows).tolist() == [True, False, False, True]
    assert checks.surface_actions(rows).tolist() == [NO_ACTION, NO_ACTION, *[RESET_ERRORS] * 2]


def test_calibration_of_equal_votes_is_even() -> None:
    even = Calibration(-np.ones(3), np.zeros(3)).apply(np.full((1, 3), 1 / 3))
    assert even == pytest.approx(np.full((1, 3), 1 / 3))
