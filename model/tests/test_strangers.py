"""Leaving a service out: what is learnt from, and what the figures say."""

from dataclasses import replace

import numpy as np
import pytest

from paramedic_model import strangers
from paramedic_model.brain import Brain
from paramedic_model.recorded import Data, Recorded
from paramedic_model.rowfile import PATIENT
from paramedic_model.schema import FEATURES, NO_ACTION, RESTART_SERVICE
from paramedic_model.strangers import Stranger, Strangers
from tests.test_recorded import made

SERVICES = (PATIENT, "redis", "nginx")
ROWS = 40


@pytest.fixture
def data() -> Data:
    """Three services; half of the rows of each need a restart, and say so."""
    n = ROWS * len(SERVICES)
    ill = np.arange(n) % 2
    rows = made(n).rows
    rows[:, FEATURES.index("health_failures")] = 9 * ill
    labels = np.where(ill, RESTART_SERVICE, NO_ACTION)
    service = np.repeat(SERVICES, ROWS)
    episode = np.char.add(service, np.arange(n).astype(str))
    whole = made(n, rows=rows, labels=labels, measured=labels, service=service, episode=episode)
    odd = np.arange(n) % 4 < 2
    none = whole.where(np.zeros(n, dtype=bool))
    return Data(whole.where(odd), whole.where(~odd), whole.rows[~odd], none, whole, {})


def test_each_foreign_service_is_judged_by_a_model_of_all_others(data: Data, brain: Brain) -> None:
    seen: list[set[str]] = []

    def fit(real: Recorded) -> Brain:
        seen.append(set(real.service.tolist()))
        return brain

    found = strangers.leave_each_out(data, fit, lambda _: None)
    assert seen == [{PATIENT, "redis"}, {PATIENT, "nginx"}]
    assert [one.service for one in found.all] == ["nginx", "redis"]
    assert all(len(one.rows) == ROWS for one in found.all)
    assert found.f1() > 0.6
    assert "nginx" in found.report()
    assert f"{found.f1():.3f}" in found.report()


def test_settings_of_one_program_are_left_out_together() -> None:
    names = np.array(["flask", "flask-bare", PATIENT])
    assert strangers.programs(names).tolist() == ["flask", "flask", PATIENT]


def test_without_foreign_services_held_out_episodes_give_the_bound(
    data: Data, brain: Brain
) -> None:
    own = data.learn.service == PATIENT
    alone = replace(data, learn=data.learn.where(own))
    alone = replace(alone, held_out=data.held_out.where(data.held_out.service == PATIENT))
    found = strangers.leave_each_out(alone, lambda _: brain, lambda _: None)
    assert found.all == []
    assert found.most == 0
    assert found.report() == ""


def test_the_gate_refuses_strange_rows_and_the_report_says_at_what_price() -> None:
    labels = np.array([RESTART_SERVICE, RESTART_SERVICE, NO_ACTION, NO_ACTION])
    sure = np.array([[0.0, 0.0, 1.0]] * 3 + [[0.4, 0.0, 0.6]])
    one = Stranger("redis", made(4, labels=labels), sure, np.array([0, 3, 3, 0]))
    found = Strangers([one], most=2)
    assert found.precision(gate=False) == pytest.approx(2 / 3)
    assert found.precision(gate=True) == 1.0
    assert "1 of 1 wrong ones and 1 of 2 right ones" in found.report()
