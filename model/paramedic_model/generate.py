"""Rows of the original rules, and of what they leave open: synthetic.

Recorded faults (`recorded.py`) are few and come from one machine. These rows keep the forest to the
known decision surface, edge by edge, and keep it plausible between and beyond the recorded rows.
Every label is the mildest remedy that could help; the function `remedy` defines it. The families
below only define how often each kind of situation is drawn, most densely near the edges of
`remedy`. So a score on these data shows how well a forest repeats `remedy`, and not how well
`remedy` heals real pods; the recorded episodes show that.

Raise `VERSION` with every change that changes the rows.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from paramedic_model.schema import FEATURES, NO_ACTION, RESET_ERRORS, RESTART_SERVICE

NAME: Final = "paramedic-synthetic"
VERSION: Final = 3

WINDOW_S: Final = 10.0
UPTIME_MAX_S: Final = 90 * 86_400.0

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Columns = dict[str, Floats]
Rng = np.random.Generator


# --- The policy -----------------------------------------------------------------------------

# Counts and integer percentages meet their edges half-way between two integers.
DEGRADED_ERRORS: Final = 5.5
CRITICAL_ERRORS: Final = 10.5
HIGH_PERCENT: Final = 79.5
CRITICAL_PERCENT: Final = 89.5
# A throttled pod needs CPU: its high cpu_usage is no fault of the app.
THROTTLED_RATIO: Final = 0.05
# The app says it is well, the kernel sees this many of its responses fail.
LYING_RATE: Final = 0.9
LYING_RATIO: Final = 0.18
FAILING_RATIO: Final = 0.9
# Failures are those of a service behind the pod if it received about as many as it sent.
UPSTREAM_RATE: Final = 0.3
UPSTREAM_SHARE: Final = 0.5
# A small share of much traffic is no fault, however many errors it adds up to.
RARE_RATIO: Final = 0.05
RARE_REQUEST_RATE: Final = 50.0
# Nor are one or two in ten seconds, where requests are few.
SINGLE_RATE: Final = 0.25
STUCK_FAILURES: Final = 2.5
SUSPECT_FAILURES: Final = 1.5
# A witness against what /health says: so many requests a second, all answered well and soon. Two
# probes of a kubelet, at one a second each, do not count.
WITNESSED_RATE: Final = 2.5
PROMPT_S: Final = 0.3
# Many errors call for a restart at once only where they are all there is to see; amid traffic a
# reset is tried first, as the recorded faults teach. A probe a second is no traffic.
SPARSE_RATE: Final = 5.0
SPARSE_GOOD: Final = 1.1
# A single 5xx does not make an old count a burst.
BURST_RATE: Final = 0.55
# Hanging for lack of CPU: after a restart it would lack it too.
STARVED_RATIO: Final = 0.2
# Clients are left without a response, which nothing excuses: no quota, no neighbours, no backend
# that does not answer.
LEFT_RATIO: Final = 0.2
STARVED_PRESSURE: Final = 0.4
WAITING_RATIO: Final = 0.3
REFUSED_RATE: Final = 0.3


def remedy(c: Columns) -> Ints:
    """The class of each row: the mildest remedy that could help."""
    rate, ratio = c["http_5xx_rate"], c["http_5xx_ratio"]
    upstream = (c["upstream_5xx_rate"] >= UPSTREAM_RATE) & (
        c["upstream_5xx_rate"] >= UPSTREAM_SHARE * rate
    )
    much = c["http_request_rate"] >= RARE_REQUEST_RATE
    single = (rate <= SINGLE_RATE) & (c["http_request_rate"] >= WITNESSED_RATE)
    rare = (rate > 0) & (ratio < RARE_RATIO) & (much | single)
    good = c["http_request_rate"] - rate
    served = (rate == 0) & (good >= WITNESSED_RATE)
    served &= (c["health_latency"] < PROMPT_S) & (c["health_failures"] == 0)
    served &= c["unanswered_ratio"] == 0
    errors = np.where(upstream | rare | served, 0.0, c["error_count"])
    throttled = c["cpu_throttled_ratio"] >= THROTTLED_RATIO
    cpu = np.where(throttled | served, 0.0, c["cpu_usage"])
    memory = np.where(served, 0.0, c["memory_usage"])
    sparse = (good < SPARSE_GOOD) & (rate < SPARSE_RATE)
    sparse &= (rate == 0) | (rate >= BURST_RATE)
    starved = c["cpu_throttled_ratio"] >= STARVED_RATIO
    excused = starved | (c["cpu_pressure"] >= STARVED_PRESSURE)
    excused |= c["upstream_waiting_ratio"] >= WAITING_RATIO
    excused |= c["upstream_refused_rate"] >= REFUSED_RATE
    excused |= c["upstream_5xx_rate"] >= UPSTREAM_RATE
    left = (c["unanswered_ratio"] >= LEFT_RATIO) & ~excused
    lying = ~upstream & (rate >= LYING_RATE) & (ratio >= LYING_RATIO)

    reset = (errors > DEGRADED_ERRORS) | (cpu > HIGH_PERCENT) | (memory > HIGH_PERCENT) | lying
    restart = (
        ((errors > CRITICAL_ERRORS) & sparse)
        | ((cpu > CRITICAL_PERCENT) & (memory > CRITICAL_PERCENT))
        | ((c["health_failures"] > STUCK_FAILURES) & ~starved)
        | left
        | (lying & (ratio >= FAILING_RATIO) & (c["health_failures"] > SUSPECT_FAILURES))
    )
    return np.where(restart, RESTART_SERVICE, np.where(reset, RESET_ERRORS, NO_ACTION))


# --- Building blocks ------------------------------------------------------------------------


def log_uniform(rng: Rng, n: int, low: float, high: float) -> Floats:
    return np.exp(rng.uniform(np.log(low), np.log(high), n))


def sometimes(rng: Rng, share: float | Floats, yes: Floats, no: Floats | float) -> Floats:
    return np.where(rng.random(len(yes)) < share, yes, no)


def integers(rng: Rng, n: int, low: int, high: int) -> Floats:
    """Uniform integers, both ends included."""
    return rng.integers(low, high + 1, n).astype(np.float64)


def percent(rng: Rng, n: int, high: int = 100) -> Floats:
    """Integer percentages as from /health, some fractional as from the cgroup, dense at edges."""
    edge = np.where(rng.random(n) < 0.5, integers(rng, n, 76, 83), integers(rng, n, 86, 93))
    value = sometimes(rng, 0.4, edge, integers(rng, n, 0, 100))
    value = np.clip(value + sometimes(rng, 0.25, rng.uniform(-0.5, 0.5, n), 0.0), 0, 100)
    return np.where(value > high, integers(rng, n, 0, high), value)


def any_errors(rng: Rng, n: int) -> Floats:
    """Error counts of every severity, dense at the edge of what is critical."""
    bands = [(0, 5), (6, 10), (9, 12), (11, 20), (21, 200), (201, 100_000)]
    drawn = np.stack([integers(rng, n, low, high) for low, high in bands])
    band = rng.choice(len(bands), n, p=[0.36, 0.25, 0.14, 0.15, 0.07, 0.03])
    return drawn[band, np.arange(n)]


def few_errors(rng: Rng, n: int) -> Floats:
    """Error counts of an app that says it is healthy."""
    return sometimes(rng, 0.4, integers(rng, n, 0, 5), 0.0)


def quiet(rng: Rng, n: int) -> Columns:
    """A healthy pod whose kernel columns are neutral."""
    c = {name: np.zeros(n) for name in FEATURES}
    c["cpu_usage"] = percent(rng, n, 79)
    c["memory_usage"] = percent(rng, n, 79)
    # Small services use next to nothing.
    small = rng.random(n) < 0.3
    c["cpu_usage"] = np.where(small, integers(rng, n, 0, 3), c["cpu_usage"])
    c["memory_usage"] = np.where(small, integers(rng, n, 0, 3), c["memory_usage"])
    c["error_count"] = few_errors(rng, n)
    c["uptime"] = sometimes(rng, 0.97, log_uniform(rng, n, 1.0, UPTIME_MAX_S), 0.0)
    c["hour_of_day"] = integers(rng, n, 0, 23)
    c["health_latency"] = log_uniform(rng, n, 0.0005, 0.05)
    c["response_time"] = log_uniform(rng, n, 0.0005, 2.0)
    return c


def set_traffic(c: Columns, failed: Floats, good: Floats) -> None:
    """Responses counted within one window become rate, ratio and request rate."""
    failed, good = np.floor(failed), np.floor(good)
    c["http_5xx_rate"] = failed / WINDOW_S
    c["http_5xx_ratio"] = failed / np.maximum(failed + good, 1.0)
    c["http_request_rate"] = (failed + good) / WINDOW_S


def add_nuisance(rng: Rng, c: Columns) -> None:
    """Resets, retransmits, a slow poll, slow responses, pressure, a backend that is waited for:
    alone they call for nothing, and they hide nothing."""
    n = len(c["uptime"])
    c["tcp_reset_rate"] = sometimes(rng, 0.15, log_uniform(rng, n, 0.1, 1000), c["tcp_reset_rate"])
    c["tcp_retransmit_rate"] = sometimes(
        rng, 0.15, log_uniform(rng, n, 0.1, 1000), c["tcp_retransmit_rate"]
    )
    c["health_latency"] = sometimes(rng, 0.1, rng.uniform(0.05, 0.95, n), c["health_latency"])
    c["response_time"] = sometimes(rng, 0.1, log_uniform(rng, n, 0.5, 60), c["response_time"])
    # Older kernels do not tell it.
    told = (c["http_request_rate"] > 0) & (rng.random(n) < 0.85)
    c["response_time"] = np.where(told, c["response_time"], 0.0)
    without = c["unanswered_ratio"] == 0
    for name, high in (("cpu_pressure", 1.0), ("upstream_waiting_ratio", 1.0)):
        c[name] = sometimes(rng, 0.12 * without, rng.uniform(0.0, high, n), c[name])
    refused = sometimes(rng, 0.06 * without, log_uniform(rng, n, 0.1, 100), 0.0)
    c["upstream_refused_rate"] = np.maximum(refused, c["upstream_refused_rate"])


# --- Families -------------------------------------------------------------------------------


def rules(rng: Rng, n: int) -> Columns:
    c = quiet(rng, n)
    c["http_request_rate"] = sometimes(rng, 0.3, rng.uniform(0.1, 2.3, n), 0.0)
    loaded = rng.random(n) < 0.6
    c["cpu_usage"] = np.where(loaded, percent(rng, n), c["cpu_usage"])
    c["memory_usage"] = np.where(loaded, percent(rng, n), c["memory_usage"])
    # Both at once near their edge: where chance alone would seldom go.
    both = rng.random(n) < 0.15
    for name in ("cpu_usage", "memory_usage"):
        c[name] = np.where(both, integers(rng, n, 86, 93), c[name])
    c["error_count"] = any_errors(rng, n)
    c["cpu_throttled_ratio"] = sometimes(rng, 0.05, rng.uniform(0.0, 0.04, n), 0.0)
    return c


def honest(rng: Rng, n: int) -> Columns:
    c = quiet(rng, n)
    count = any_errors(rng, n)
    c["error_count"] = count
    seen = sometimes(rng, 0.6, count, np.floor(rng.random(n) * (count + 1)))
    set_traffic(c, seen, sometimes(rng, 0.5, log_uniform(rng, n, 1, 400), 0.0))
    return c


def served_well(rng: Rng, n: int) -> Columns:
    """Whatever /health says, the kernel sees requests that are answered well."""
    c = rules(rng, n)
    c["http_request_rate"] = sometimes(
        rng, 0.3, rng.uniform(1.5, 4.0, n), log_uniform(rng, n, 2.5, 50_000)
    )
    c["health_latency"] = sometimes(rng, 0.15, rng.uniform(0.05, 0.29, n), c["health_latency"])
    return c


def lying(rng: Rng, n: int) -> Columns:
    c = quiet(rng, n)
    failed = sometimes(rng, 0.5, log_uniform(rng, n, 1, 20_000), integers(rng, n, 3, 30))
    ratio = sometimes(rng, 0.3, np.ones(n), rng.uniform(0.02, 1.0, n))
    ratio = sometimes(rng, 0.3, rng.uniform(0.1, 0.26, n), ratio)
    set_traffic(c, failed, failed / ratio - failed)
    c["health_failures"] = sometimes(rng, 0.25, integers(rng, n, 1, 2), 0.0)
    c["upstream_5xx_rate"] = sometimes(rng, 0.2, 0.3 * rng.random(n) * c["http_5xx_rate"], 0.0)
    return c


def rare_errors(rng: Rng, n: int) -> Columns:
    c = quiet(rng, n)
    total = WINDOW_S * log_uniform(rng, n, 5, 50_000)
    failed = np.maximum(total * log_uniform(rng, n, 1e-4, 0.08), 1.0)
    set_traffic(c, failed, total - failed)
    fallback = sometimes(rng, 0.6, np.floor(failed), any_errors(rng, n))
    c["error_count"] = sometimes(rng, 0.6, fallback, c["error_count"])
    return c


def client_resets(rng: Rng, n: int) -> Columns:
    c = quiet(rng, n)
    c["tcp_reset_rate"] = log_uniform(rng, n, 1, 1000)
    return c


def bad_network(rng: Rng, n: int) -> Columns:
    c = quiet(rng, n)
    c["tcp_retransmit_rate"] = log_uniform(rng, n, 1, 1000)
    return c


def throttled(rng: Rng, n: int) -> Columns:
    c = quiet(rng, n)
    c["cpu_throttled_ratio"] = sometimes(
        rng, 0.25, rng.uniform(0.01, 0.12, n), rng.uniform(0.06, 1.0, n)
    )
    c["cpu_usage"] = sometimes(rng, 0.7, integers(rng, n, 80, 100), percent(rng, n))
    c["memory_usage"] = sometimes(rng, 0.25, percent(rng, n), c["memory_usage"])
    c["error_count"] = sometimes(rng, 0.3, any_errors(rng, n), c["error_count"])
    c["health_latency"] = sometimes(rng, 0.6, rng.uniform(0.01, 1.0, n), c["health_latency"])
    return c


def upstream_outage(rng: Rng, n: int) -> Columns:
    c = quiet(rng, n)
    failed = sometimes(rng, 0.5, log_uniform(rng, n, 1, 5000), integers(rng, n, 0, 40))
    ratio = sometimes(rng, 0.4, np.ones(n), rng.uniform(0.02, 1.0, n))
    set_traffic(c, failed, failed / ratio - failed)
    share = sometimes(rng, 0.7, log_uniform(rng, n, 0.7, 3.0), rng.uniform(0.0, 0.3, n))
    alone = sometimes(rng, 0.2, log_uniform(rng, n, 0.3, 500), 0.0)
    c["upstream_5xx_rate"] = c["http_5xx_rate"] * share + alone
    count = sometimes(rng, 0.5, np.floor(failed), any_errors(rng, n))
    c["error_count"] = sometimes(rng, 0.6, count, c["error_count"])
    return c


def stuck(rng: Rng, n: int) -> Columns:
    """Last known or fallback health columns; the poll times out, or is refused at once."""
    c = quiet(rng, n)
    c["health_failures"] = sometimes(
        rng, 0.8, integers(rng, n, 3, 10), np.floor(log_uniform(rng, n, 3, 10_000))
    )
    c["health_latency"] = sometimes(rng, 0.7, np.ones(n), c["health_latency"])
    c["cpu_usage"] = sometimes(rng, 0.4, percent(rng, n), c["cpu_usage"])
    c["error_count"] = sometimes(rng, 0.2, any_errors(rng, n), c["error_count"])
    c["cpu_throttled_ratio"] = sometimes(rng, 0.2, rng.uniform(0.0, 1.0, n), 0.0)
    c["upstream_5xx_rate"] = sometimes(rng, 0.1, log_uniform(rng, n, 0.1, 100), 0.0)
    return c


def blip(rng: Rng, n: int) -> Columns:
    c = quiet(rng, n)
    c["health_failures"] = integers(rng, n, 1, 2)
    c["health_latency"] = sometimes(rng, 0.7, np.ones(n), c["health_latency"])
    return c


def left_alone(rng: Rng, n: int) -> Columns:
    """Clients get no responses, whatever /health says; half of the time something excuses it."""
    c = quiet(rng, n)
    edge = rng.uniform(0.1, 0.3, n)
    c["unanswered_ratio"] = sometimes(rng, 0.2, edge, rng.uniform(0.2, 1.0, n))
    rate = sometimes(rng, 0.3, np.zeros(n), log_uniform(rng, n, 0.1, 2000))
    set_traffic(c, np.zeros(n), WINDOW_S * rate)
    c["error_count"] = sometimes(rng, 0.2, any_errors(rng, n), c["error_count"])
    c["health_failures"] = sometimes(rng, 0.3, integers(rng, n, 1, 8), 0.0)
    excuse = rng.integers(0, 10, n)
    for i, (name, low, high) in enumerate(
        (
            ("cpu_throttled_ratio", 0.05, 1.0),
            ("cpu_pressure", 0.2, 1.0),
            ("upstream_waiting_ratio", 0.15, 1.0),
            ("upstream_refused_rate", 0.1, 20.0),
            ("upstream_5xx_rate", 0.1, 20.0),
        )
    ):
        c[name] = np.where(excuse == i, rng.uniform(low, high, n), c[name])
    return c


def high_load(rng: Rng, n: int) -> Columns:
    c = quiet(rng, n)
    total = WINDOW_S * log_uniform(rng, n, 1000, 50_000)
    failed = sometimes(rng, 0.6, total * rng.uniform(0.0, 0.01, n), 0.0)
    set_traffic(c, failed, total - failed)
    c["error_count"] = sometimes(rng, 0.5, np.floor(failed), c["error_count"])
    return c


def slow(rng: Rng, n: int) -> Columns:
    c = quiet(rng, n)
    c["health_latency"] = rng.uniform(0.2, 0.95, n)
    return c


def mixed(rng: Rng, n: int) -> Columns:
    """Two or more troubles at once."""
    c = rules(rng, n)
    failed = sometimes(rng, 0.6, log_uniform(rng, n, 1, 5000), 0.0)
    set_traffic(c, failed, log_uniform(rng, n, 1, 50_000))
    c["cpu_throttled_ratio"] = sometimes(rng, 0.3, rng.uniform(0.06, 1.0, n), 0.0)
    c["health_failures"] = sometimes(rng, 0.3, integers(rng, n, 1, 6), 0.0)
    c["upstream_5xx_rate"] = sometimes(rng, 0.3, 2 * rng.random(n) * c["http_5xx_rate"], 0.0)
    return c


@dataclass(frozen=True)
class Family:
    """One kind of situation, and its share in the rows."""

    name: str
    share: float
    draw: Callable[[Rng, int], Columns]
    meaning: str


FAMILIES: Final = (
    Family("rules", 0.26, rules, "what /health says decides; the kernel columns are neutral"),
    Family("honest", 0.12, honest, "the kernel sees the errors that /health counts"),
    Family("served_well", 0.07, served_well, "/health says it is ill, the kernel that it serves"),
    Family("lying", 0.10, lying, "/health says healthy while responses fail"),
    Family("rare_errors", 0.05, rare_errors, "a small share of 5xx among many responses"),
    Family("client_resets", 0.02, client_resets, "clients reset their connections: leave alone"),
    Family("bad_network", 0.02, bad_network, "retransmits: leave alone"),
    Family("throttled", 0.07, throttled, "a CPU quota throttles: needs CPU, not a restart"),
    Family("upstream_outage", 0.08, upstream_outage, "a service behind the pod fails"),
    Family("stuck", 0.05, stuck, "/health failed three times in a row"),
    Family("left_alone", 0.08, left_alone, "clients get no responses, with and without an excuse"),
    Family("blip", 0.02, blip, "/health failed once or twice: leave alone"),
    Family("high_load", 0.02, high_load, "much traffic, under 1 % of it 5xx: leave alone"),
    Family("slow", 0.02, slow, "/health answers slowly: leave alone"),
    Family("mixed", 0.02, mixed, "several of these at once"),
)


@dataclass(frozen=True)
class Dataset:
    """Rows in schema order, their labels, and the index of each row's family."""

    rows: NDArray[np.float32]
    labels: Ints
    family: Ints


def leave_open(rng: Rng, c: Columns) -> None:
    """Busy and slow at once: the rules are silent on it, and the recorded faults are not."""
    slow = c["health_latency"] >= 0.4
    busy = slow & (c["cpu_usage"] > 50) & (c["cpu_usage"] <= HIGH_PERCENT)
    c["cpu_usage"] = np.where(busy, integers(rng, len(busy), 0, 50), c["cpu_usage"])


def to_rows(c: Columns) -> NDArray[np.float32]:
    """Stacked in schema order, in the precision in which the agent will ask."""
    return np.stack([c[name] for name in FEATURES], axis=1).astype(np.float32)


def to_columns(rows: NDArray[np.float32]) -> Columns:
    return {name: rows[:, i].astype(np.float64) for i, name in enumerate(FEATURES)}


def draw(family: Family, rng: Rng, n: int) -> NDArray[np.float32]:
    c = family.draw(rng, n)
    add_nuisance(rng, c)
    leave_open(rng, c)
    # Four decimals are more than any source measures, and hide the last bits in which the
    # logarithms of two machines differ: the same seed gives the same forest.
    return to_rows({name: np.round(column, 4) for name, column in c.items()})


def plain(names: Collection[str], n: int, seed: int) -> NDArray[np.float32]:
    """`n` rows of each of these families, without what alone calls for nothing."""
    rng = np.random.default_rng(seed)
    return np.concatenate([to_rows(f.draw(rng, n)) for f in FAMILIES if f.name in names])


def generate(n: int, seed: int) -> Dataset:
    """About `n` rows, shuffled; the same for the same seed and version."""
    rng = np.random.default_rng(seed)
    sizes = [round(n * family.share) for family in FAMILIES]
    rows = np.concatenate([draw(f, rng, size) for f, size in zip(FAMILIES, sizes, strict=True)])
    family = np.repeat(np.arange(len(FAMILIES)), sizes)
    order = rng.permutation(len(rows))
    rows, family = rows[order], family[order]
    return Dataset(rows, remedy(to_columns(rows)), family)
