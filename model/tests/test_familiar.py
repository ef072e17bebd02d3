"""Which rows are known, and which are strange."""

import numpy as np
from numpy.typing import ArrayLike

from paramedic_model import familiar
from paramedic_model.familiar import COLUMNS, Rows
from paramedic_model.schema import FEATURES


def rows_of(n: int, **columns: ArrayLike) -> Rows:
    rows = np.zeros((n, len(FEATURES)), dtype=np.float32)
    for name, values in columns.items():
        rows[:, FEATURES.index(name)] = np.asarray(values)
    return rows


def test_what_came_together_in_two_episodes_is_seen() -> None:
    rows = rows_of(6, cpu_usage=[0, 0, 90, 90, 90, 90], error_count=[0, 0, 0, 0, 0, 7])
    known = familiar.learn(rows, np.array(["a", "b", "a", "b", "c", "c"]), 0)
    strange = rows_of(4, cpu_usage=[0, 90, 90, 0], error_count=[0, 0, 7, 7])
    # Seven errors were in one episode only: nothing that they came with is seen.
    assert known.unseen(strange).tolist()[:2] == [0, 0]
    assert known.unseen(strange)[2] == len(COLUMNS) - 1
    assert known.is_strange(strange).tolist() == [False, False, True, True]


def test_each_side_of_a_pair_may_be_common_and_both_together_strange() -> None:
    half = np.arange(40) % 2
    rows = rows_of(40, cpu_usage=90 * half, memory_usage=90 * (1 - half))
    known = familiar.learn(rows, np.arange(40).astype(str), 0)
    assert known.unseen(rows).max() == 0
    assert known.unseen(rows_of(1, cpu_usage=90, memory_usage=90)).tolist() == [1]


def test_more_than_ever_is_like_the_most_that_was() -> None:
    rows = rows_of(100, http_request_rate=np.arange(100))
    known = familiar.learn(rows, np.arange(100).astype(str), 0)
    assert known.unseen(rows_of(1, http_request_rate=1e9)).tolist() == [0]


def test_ends_rise_and_zero_is_a_range_of_its_own() -> None:
    for column in (np.zeros(9), np.ones(9), np.arange(1000.0), np.array([0, 0, 0, 1e-3])):
        ends = familiar.ends_of(column.astype(np.float32))
        assert ends[0] == 0
        assert len(ends) < familiar.RANGES
        assert (np.diff(ends) > 0).all()


def test_a_word_has_a_bit_for_the_ranges_of_both() -> None:
    rows = rows_of(2, cpu_usage=0, memory_usage=50)
    known = familiar.learn(rows, np.array(["a", "b"]), 3)
    written = known.written()
    assert written["most"] == 3
    assert len(written["seen"]) == len(COLUMNS) * (len(COLUMNS) - 1) // 2
    # The first pair is of the first two columns: ranges 0 and 1.
    low = familiar.cut(rows, known.ends)[0, :2].tolist()
    assert int(written["seen"][0], 16) == 1 << (8 * low[0] + low[1])


def test_the_bound_costs_few_restarts_of_services_that_were_not_learnt_from() -> None:
    quiet, odd = np.array([0] * 99 + [9]), np.array([4] * 100)
    assert familiar.bound([quiet]) == 0
    assert familiar.bound([quiet, odd]) == 4
    assert familiar.bound([]) == len(familiar.pairs())
