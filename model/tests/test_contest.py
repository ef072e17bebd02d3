"""Which kind ships, and what the report says of it."""

from dataclasses import replace

import numpy as np
import pytest

from paramedic_model.brain import Brain
from paramedic_model.contest import Contender, Contest
from paramedic_model.lab_report import Judged
from paramedic_model.recorded import Data, Recorded
from paramedic_model.schema import NO_ACTION, RESTART_SERVICE

TOLERANCE = 0.002


def judged(held_out: Recorded, f1: float, *, wrong_restarts: int = 0) -> Judged:
    """Verdicts that are right but for some restarts, with a score of their own."""
    p = np.eye(3)[held_out.labels]
    well = np.flatnonzero(held_out.labels == NO_ACTION)[:wrong_restarts]
    p[well] = np.eye(3)[RESTART_SERVICE]
    return Judged(p, f1, f1)


@pytest.fixture(scope="module")
def even(shipped: Data) -> Contest:
    held_out = shipped.held_out
    both = [
        Contender(kind, f"trees of {kind}", 10, 100, judged(held_out, 0.9))
        for kind in ("forest", "boosted")
    ]
    return Contest(held_out, *both)


def other(contest: Contest, f1: float, *, wrong_restarts: int = 0, failed: str = "") -> Contest:
    found = judged(contest.held_out, f1, wrong_restarts=wrong_restarts)
    return replace(contest, other=replace(contest.other, judged=found, failed=failed))


def test_the_other_kind_is_better_only_beyond_the_tolerance(even: Contest) -> None:
    assert not even.other_is_better(TOLERANCE)
    assert not other(even, 0.902).other_is_better(TOLERANCE)
    assert other(even, 0.903).other_is_better(TOLERANCE)


def test_the_other_kind_is_not_better_if_more_of_its_restarts_are_wrong(even: Contest) -> None:
    assert not other(even, 0.99, wrong_restarts=30).other_is_better(TOLERANCE)


def test_the_other_kind_is_not_better_if_it_fails_a_check(even: Contest) -> None:
    failed = other(even, 0.99, failed="decision surface: wrong verdict")
    assert not failed.other_is_better(TOLERANCE)
    assert "the other kind fails a check (decision surface: wrong verdict)" in failed.reasons()


def test_the_report_says_which_kind_ships_and_why(even: Contest) -> None:
    told = other(even, 0.8, wrong_restarts=30).report()
    assert "`forest` ships: its macro-F1 is 0.900 against 0.800, and at the gate 100.0% of" in told
    assert "| forest | 0.900 | 0.900 |" in told
    assert "| boosted | 0.800 | 0.800 |" in told
    assert "trees of forest, against trees of boosted" in told


def test_a_contender_is_judged_on_the_held_out_rows(boosted: Brain, shipped: Data) -> None:
    held_out = shipped.held_out
    found = Contender.of("boosted", boosted, b"12345", held_out)
    assert (found.size, found.nodes) == (5, boosted.trees.node_count())
    assert found.judged.p == pytest.approx(boosted.calibrated(held_out.rows))
