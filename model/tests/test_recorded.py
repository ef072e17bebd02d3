"""What is held out, what is drawn, and that nothing of the one leaks into the other."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from paramedic_model import recorded, schema
from paramedic_model.generate import remedy, to_columns
from paramedic_model.recorded import HELD_OUT_EVERY, KEPT, SHIPPED, Data, Recorded, Recordings
from paramedic_model.schema import FEATURES, NO_ACTION, RESET_ERRORS, RESTART_SERVICE
from paramedic_model.train import SEED
from tests.recording import Record

NOT_OF_THE_FIELD = ("cpu_usage", "memory_usage", "uptime", "hour_of_day")


def made(n: int, **columns: object) -> Recorded:
    """Rows of zeros, but for what is named."""
    whole = Recorded(
        rows=np.zeros((n, len(FEATURES)), dtype=np.float32),
        labels=np.full(n, NO_ACTION),
        measured=np.full(n, NO_ACTION),
        kind=np.full(n, "stuck"),
        arm=np.full(n, "no_action"),
        phase=np.full(n, "during"),
        since_fault_s=np.arange(n, dtype=np.float64),
        episode=np.full(n, "data/000000"),
        service=np.full(n, "patient_app"),
        lacks=np.zeros(n, dtype=bool),
    )
    return replace(whole, **{name: np.array(column) for name, column in columns.items()})


def held(*folders: Path) -> tuple[list[str], list[str]]:
    """The episodes that are held out: of the shipped folder, and of others."""
    episodes = np.unique(recorded.load(Recordings(folders[:1], folders[1:]), SEED).held_out.episode)
    shipped = [str(e) for e in episodes if e.startswith(f"{SHIPPED}/")]
    return shipped, [str(e) for e in episodes if e not in shipped]


# --- The split ------------------------------------------------------------------------------


def test_no_episode_is_both_learnt_from_and_held_out(shipped: Data) -> None:
    learnt, tested = set(shipped.learn.episode), set(shipped.held_out.episode)
    assert learnt
    assert tested
    assert learnt.isdisjoint(tested)
    assert set(shipped.as_recorded.episode) == tested


def test_no_row_is_both_learnt_from_and_held_out(shipped: Data) -> None:
    """Where a row says something, it holds a latency of nine digits: it repeats by no accident."""
    telling = [i for i, name in enumerate(FEATURES) if name not in NOT_OF_THE_FIELD]

    def rows(data: Recorded) -> set[bytes]:
        says = data.rows[:, telling]
        says = says[(says != 0).sum(axis=1) > 3]
        return {row.tobytes() for row in says}

    both = rows(shipped.learn) & rows(shipped.held_out)
    assert not both, len(both)


def test_a_quarter_of_each_kind_is_held_out(shipped: Data) -> None:
    for kind in np.unique(shipped.learn.kind):
        learnt = np.unique(shipped.learn.episode[shipped.learn.kind == kind])
        tested = np.unique(shipped.held_out.episode[shipped.held_out.kind == kind])
        assert len(tested) == (len(learnt) + len(tested)) // HELD_OUT_EVERY, kind


def test_the_shipped_split_is_the_same_whatever_else_is_recorded(record: Record) -> None:
    shipped = record("model/data", range(9))
    alone, _ = held(shipped)
    assert alone == ["data/000003", "data/000007"]
    # Folders that are called the same, or sort before it.
    others = [record("2/data", range(20, 31)), record("a", range(40, 47))]
    assert held(shipped, *others)[0] == alone


def test_a_second_shipped_folder_has_a_split_of_its_own(record: Record) -> None:
    first, second = record("model/data", range(9)), record("model/data/silence", range(20, 25))
    both = Recordings([first, second])
    episodes = np.unique(recorded.load(both, SEED).held_out.episode).tolist()
    assert episodes == ["data-silence/000003", "data/000003", "data/000007"]


def test_a_recording_without_the_newer_columns_is_read_as_neutral(record: Record) -> None:
    old = record("model/data", range(9), old=True)
    data = recorded.load(Recordings([old, record("model/data/new", range(20, 29))]), SEED)
    assert data.told["rows from before " + ", ".join(schema.ADDED)] == 9 * 2
    for rows in (data.learn, data.held_out):
        neutral = [FEATURES.index(n) for n in schema.ADDED if n != "response_time"]
        assert (rows.rows[rows.lacks][:, neutral] == 0).all()
        assert rows.lacks.any()
        assert not rows.lacks.all()


def test_another_folders_split_is_the_same_when_it_grows(record: Record) -> None:
    shipped = record("model/data", range(9))
    short = held(shipped, record("short", range(20, 60)))[1]
    long = held(shipped, record("long", range(10, 80)))[1]
    of_short, of_long = ({name.split("/")[0] for name in names} for names in (short, long))
    assert 0 < len(short) < len(range(20, 60))
    assert of_short < of_long


def test_the_same_rows_twice_are_refused(record: Record) -> None:
    folders = [record("model/data", range(9)), record("copy", range(9))]
    with pytest.raises(ValueError, match="the same rows"):
        recorded.load(Recordings(folders), SEED)


# --- What is done to rows and labels ---------------------------------------------------------


def test_plots_and_one_score_are_of_what_was_recorded(record: Record) -> None:
    data = recorded.load(Recordings([record("model/data", range(9))]), SEED)
    assert len(data.as_recorded) == 2 * 3
    cpu = FEATURES.index("cpu_usage")
    assert sorted(set(data.as_recorded.rows[:, cpu])) == [3, 7]
    assert sorted(set(data.undrawn[:, cpu])) == [3, 7]
    assert len(data.undrawn) == len(data.held_out)


def test_the_same_seed_reads_the_same(record: Record) -> None:
    folder = record("model/data", range(40))
    first, second = (recorded.load(Recordings([folder]), SEED) for _ in range(2))
    assert first.learn.rows.tobytes() == second.learn.rows.tobytes()
    assert first.held_out.labels.tolist() == second.held_out.labels.tolist()


def test_a_few_rows_of_each_kind_are_kept_over_the_whole_time() -> None:
    many = made(100 * KEPT, labels=[NO_ACTION, RESET_ERRORS] * (50 * KEPT))
    thinned = recorded.thin(many)
    for label in (NO_ACTION, RESET_ERRORS):
        times = thinned.since_fault_s[thinned.labels == label]
        assert len(times) == KEPT
        assert times[0] < 2
        assert times[-1] > 90 * KEPT
    assert len(recorded.thin(made(KEPT - 1))) == KEPT - 1


def test_other_values_are_drawn_only_where_they_say_nothing_of_the_field() -> None:
    rows = np.full((1000, len(FEATURES)), 90, dtype=np.float32)
    before = made(1000, rows=rows)
    after = recorded.redraw(before, SEED)
    changed = (after.rows != before.rows).any(axis=0)
    assert {FEATURES[i] for i in np.flatnonzero(changed)} == {"uptime", "hour_of_day"}
    small = recorded.redraw(made(1000), SEED).rows
    for name, high in (("cpu_usage", 50), ("memory_usage", 75)):
        column = small[:, FEATURES.index(name)]
        assert 0.3 < (column > 0).mean() < 0.6, name
        assert column.max() < high, name
    assert (before.rows == 90).all()


def test_rows_that_no_column_tells_apart_are_judged_and_not_learnt_from() -> None:
    columns = {"http_5xx_rate": 5.0, "http_5xx_ratio": 1.0, "http_request_rate": 5.0}
    rows = made(4).rows
    for name, value in columns.items():
        rows[:, FEATURES.index(name)] = value
    rows[2, FEATURES.index("upstream_5xx_rate")] = 5
    rows[3, FEATURES.index("http_5xx_ratio")] = 0.1
    labels = [NO_ACTION, RESTART_SERVICE, NO_ACTION, NO_ACTION]
    assert recorded.is_untold(made(4, rows=rows, labels=labels)).tolist() == [
        True,
        False,
        False,
        False,
    ]


def test_what_contradicts_the_known_surface_is_not_learnt_from(shipped: Data) -> None:
    errors = np.zeros((2, len(FEATURES)), dtype=np.float32)
    errors[:, FEATURES.index("error_count")] = 8
    data = made(2, rows=errors, labels=[RESET_ERRORS, NO_ACTION])
    assert recorded.contradicts_surface(data).tolist() == [False, True]
    # A failed poll is more than the known surface knows of.
    data.rows[:, FEATURES.index("health_failures")] = 1
    assert not recorded.contradicts_surface(data).any()
    learn = replace(shipped.learn, labels=shipped.learn.measured)
    assert not recorded.contradicts_surface(learn).any()
    assert (remedy(to_columns(learn.rows)) != learn.labels).any()


def test_a_reset_comes_first_only_where_a_restart_was_measured(shipped: Data) -> None:
    for part in (shipped.learn, shipped.held_out):
        changed = part.labels != part.measured
        assert changed.any()
        assert (part.measured[changed] == RESTART_SERVICE).all()
        assert (part.labels[changed] == RESET_ERRORS).all()


def test_no_episode_is_asked_about_itself() -> None:
    """What is to be done first in an episode does not depend on what helped there."""
    rows = np.zeros((120, len(FEATURES)), dtype=np.float32)
    # Episodes of failing, which a reset helps, and of hanging, which it does not.
    rows[:40, FEATURES.index("http_5xx_ratio")] = 1
    rows[40:, FEATURES.index("health_failures")] = 5
    measured = np.repeat([RESET_ERRORS, RESTART_SERVICE], [40, 80])
    episode = np.array([f"data/{i // 10:06d}" for i in range(120)])
    whole = made(120, rows=rows, labels=measured, measured=measured, episode=episode)
    mine = episode == "data/000011"
    asked = whole.where(mine)
    assert (recorded.mildest_first(asked, whole).labels == RESTART_SERVICE).all()
    # Were it asked, it would say that a reset often helps.
    told = replace(whole, measured=np.where(mine, RESET_ERRORS, measured))
    assert (recorded.mildest_first(asked, told).labels == RESTART_SERVICE).all()
    # Others are asked.
    others = np.isin(episode, [f"data/{i:06d}" for i in range(4, 10)])
    told = replace(whole, measured=np.where(others, RESET_ERRORS, measured))
    assert (recorded.mildest_first(asked, told).labels == RESET_ERRORS).all()
