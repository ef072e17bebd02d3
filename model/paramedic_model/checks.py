"""What a model must do before it is written: each check raises `CheckFailed` with an example."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from paramedic_model.brain import Brain
from paramedic_model.familiar import Familiarity
from paramedic_model.generate import UPTIME_MAX_S, generate
from paramedic_model.scenarios import MIN_CONFIDENCE, SCENARIOS, Scenario
from paramedic_model.schema import (
    CLASSES,
    FEATURES,
    KERNEL_FEATURES,
    NO_ACTION,
    RESET_ERRORS,
    RESTART_SERVICE,
)

SURE: Final = 0.8
# Libraries add up single-precision leaves in orders of their own.
PARITY: Final = 2e-6
SAMPLE_SEED: Final = 11

Rows = NDArray[np.float32]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


class CheckFailed(Exception):
    """The model, or its export, is not fit to be shipped."""


@dataclass(frozen=True)
class Result:
    """One line of the report."""

    name: str
    outcome: str


def describe(row: Rows) -> str:
    return ", ".join(f"{n}={v:g}" for n, v in zip(FEATURES, row, strict=True) if v)


def require(good: Bools, rows: Rows, what: str) -> None:
    if not good.all():
        bad = np.flatnonzero(~good)
        raise CheckFailed(f"{what}: {len(bad)} of {len(rows)} rows, e.g. {describe(rows[bad[0]])}")


# --- The known decision surface -----------------------------------------------------------------


def surface_rows(context: dict[str, float]) -> Rows:
    """Every integer cpu and memory percentage against error counts around and far from edges."""
    counts = np.array([*range(21), 25, 50, 100, 1000, 100_000])
    percents = np.arange(101)
    cpu, memory, errors = np.meshgrid(percents, percents, counts, indexing="ij")
    rows = np.tile(Scenario("", NO_ACTION, context).row(), (cpu.size, 1))
    for name, values in (("cpu_usage", cpu), ("memory_usage", memory), ("error_count", errors)):
        rows[:, FEATURES.index(name)] = values.ravel()
    return rows


def surface_actions(rows: Rows) -> Ints:
    """The rules of the original system, stated apart from the generator that repeats them."""
    cpu, memory, errors = rows[:, 0], rows[:, 1], rows[:, 2]
    restart = (errors > 10) | ((cpu >= 90) & (memory >= 90))
    reset = (errors > 5) | (cpu >= 80) | (memory >= 80)
    return np.where(restart, RESTART_SERVICE, np.where(reset, RESET_ERRORS, NO_ACTION))


def must_be_sure(rows: Rows) -> Bools:
    """Away from the edges of cpu and memory; at every error count if those two are low."""
    cpu, memory, errors = rows[:, 0], rows[:, 1], rows[:, 2]
    away = ~np.isin(cpu, (79, 80, 89, 90)) & ~np.isin(memory, (79, 80, 89, 90))
    return away & (~np.isin(errors, (5, 6, 10, 11)) | ((cpu < 79) & (memory < 79)))


# Neutral: the kernel saw nothing, or next to nothing. Where it sees requests that are answered
# well, it is a witness.
SURFACE_CONTEXTS: Final[tuple[dict[str, float], ...]] = (
    {},
    {"uptime": 0.0, "hour_of_day": 0.0, "http_request_rate": 0.5},
    {"uptime": 86_400.0, "hour_of_day": 23.0, "health_latency": 0.02},
    {"uptime": UPTIME_MAX_S, "hour_of_day": 5.0, "http_request_rate": 1.0},
)


def check_surface(brain: Brain) -> Result:
    lowest, total = 1.0, 0
    for context in SURFACE_CONTEXTS:
        rows = surface_rows(context)
        expected, sure = surface_actions(rows), must_be_sure(rows)
        p = brain.calibrated(rows)
        require(p.argmax(axis=1) == expected, rows, "decision surface: wrong verdict")
        confidence = p.max(axis=1)
        require((confidence >= SURE) | ~sure, rows, f"decision surface: confidence < {SURE}")
        lowest = min(lowest, float(confidence[sure].min()))
        total += len(rows)
    return Result(
        "known decision surface",
        f"{total:,} grid rows right; lowest confidence off the edges {lowest:.3f}",
    )


# --- Scenarios, invariance ------------------------------------------------------------------------


def check_scenarios(brain: Brain) -> Result:
    rows = np.stack([s.row() for s in SCENARIOS])
    p, reasons = brain.calibrated(rows), brain.trees.shares(rows)
    lowest = float(p.max(axis=1).min())
    for scenario, probabilities, shares in zip(SCENARIOS, p, reasons, strict=True):
        action = int(probabilities.argmax())
        first = FEATURES[int(shares[:, action].argmax())]
        said = f"{CLASSES[action]} at {probabilities[action]:.3f}, first reason {first}"
        if action != scenario.action or probabilities[action] < MIN_CONFIDENCE:
            raise CheckFailed(f"scenario “{scenario.name}”: {said}")
        if scenario.kernel_first and first not in KERNEL_FEATURES:
            raise CheckFailed(f"scenario “{scenario.name}”: no kernel column leads: {said}")
    return Result("scenarios", f"{len(rows)} right; lowest confidence {lowest:.3f}")


def check_familiar(known: Familiarity) -> Result:
    """What must be restarted must be known."""
    named = [s for s in SCENARIOS if s.action == RESTART_SERVICE]
    strange = known.is_strange(np.stack([s.row() for s in named]))
    for scenario, is_strange in zip(named, strange, strict=True):
        if is_strange:
            raise CheckFailed(f"scenario “{scenario.name}”: unlike all that was learnt from")
    return Result("familiar scenarios", f"{len(named)} that need a restart are known")


def check_invariance(brain: Brain, recorded: Rows) -> Result:
    """The hour and the uptime alone never change a verdict."""
    scenarios = np.stack([s.row() for s in SCENARIOS])
    rows = np.concatenate([scenarios, generate(1000, SAMPLE_SEED).rows, recorded])
    hours = np.arange(24)
    uptimes = (0, 1, 10, 60, 600, 3600, 86_400, 30 * 86_400, UPTIME_MAX_S, 4 * UPTIME_MAX_S)
    votes = np.zeros((len(rows), len(CLASSES)), dtype=np.int64)
    for hour in hours:
        for uptime in uptimes:
            moved = rows.copy()
            moved[:, FEATURES.index("hour_of_day")] = hour
            moved[:, FEATURES.index("uptime")] = uptime
            votes[np.arange(len(rows)), brain.calibrated(moved).argmax(axis=1)] += 1
    contexts = len(hours) * len(uptimes)
    steady = votes.max(axis=1) == contexts
    require(steady, rows, "verdict depends on the hour or the uptime")
    return Result(
        "hour and uptime",
        f"{len(rows)} rows × {contexts} hours and uptimes: no verdict changes",
    )


# --- Parity ---------------------------------------------------------------------------------


def threshold_rows(brain: Brain, rows: Rows, seed: int) -> Rows:
    """Each row moved exactly onto, or one step past, a threshold on its own way to a leaf. A tree
    may be a leaf; then the row stays."""
    rng = np.random.default_rng(seed)
    moved = rows.copy()
    which = rng.integers(brain.trees.count(), size=len(rows))
    for tree in np.unique(which):
        mine = np.flatnonzero(which == tree)
        ways = brain.trees.ways(int(tree), rows[mine])
        for row, (columns, thresholds) in zip(mine, ways, strict=True):
            if len(columns):
                split = rng.choice(len(columns))
                past = rng.random() < 0.5
                moved[row, columns[split]] = step(float(thresholds[split]), past=past)
    return moved


def step(threshold: float, *, past: bool) -> np.float32:
    """The largest f32 not above the threshold, or the next one up."""
    on = np.float32(threshold)
    if float(on) > threshold:
        on = np.nextafter(on, np.float32(-np.inf))
    return np.nextafter(on, np.float32(np.inf)) if past else on


def check_parity(brain: Brain, run: tuple[Ints, Rows], rows: Rows) -> Result:
    """`run` is what ONNX Runtime said of `rows`: labels and probabilities."""
    labels, probabilities = run
    expected = brain.raw(rows)
    off = np.abs(probabilities - expected).max(axis=1)
    require(off <= PARITY, rows, f"ONNX Runtime differs by more than {PARITY}")
    tied = np.diff(np.sort(expected, axis=1)[:, 1:], axis=1)[:, 0] <= PARITY
    require((labels == expected.argmax(axis=1)) | tied, rows, "ONNX Runtime: another label")
    return Result(
        f"ONNX Runtime against {brain.trees.library}",
        f"{len(rows):,} rows, half on thresholds: largest difference {off.max():.1e}, "
        "no label differs",
    )
