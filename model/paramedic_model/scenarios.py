"""Named situations with the verdict and the confidence that the agent counts on.

The first ones are the scenes of the demo; they are part of golden.json, so the agent's own tests
hold its forest to them as well.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from paramedic_model.schema import FEATURES, NO_ACTION, RESET_ERRORS, RESTART_SERVICE

MIN_CONFIDENCE: Final = 0.85

WELL: Final = {
    "cpu_usage": 12.0,
    "memory_usage": 23.0,
    "uptime": 300.0,
    "hour_of_day": 12.0,
    "health_latency": 0.003,
}


@dataclass(frozen=True)
class Scenario:
    """A row that differs from a well pod in `signs` only, and the class it must get."""

    name: str
    action: int
    signs: dict[str, float]
    kernel_first: bool = False
    """Whether the first reason must be a kernel column."""

    def row(self) -> NDArray[np.float32]:
        values = WELL | self.signs
        return np.array([values.get(name, 0.0) for name in FEATURES], dtype=np.float32)


def traffic(failed_per_s: float, requests_per_s: float) -> dict[str, float]:
    return {
        "http_5xx_rate": failed_per_s,
        "http_5xx_ratio": failed_per_s / requests_per_s,
        "http_request_rate": requests_per_s,
        "response_time": 0.005,
    }


def errors(count: int, *, seen: bool = True) -> dict[str, float]:
    """`count` errors at /health and, if `seen`, by the kernel, with no other traffic."""
    signs = {"error_count": float(count)}
    return signs | (traffic(count / 10, count / 10) if seen and count else {})


# A service that uses next to nothing, and answers at once.
BARE: Final = {"cpu_usage": 0.0, "memory_usage": 0.0, "health_latency": 0.0005}


SCENARIOS: Final = (
    Scenario("idle and healthy", NO_ACTION, {}),
    Scenario("healthy under load", NO_ACTION, {"cpu_usage": 65} | traffic(2, 900)),
    Scenario("3 errors, one a second", NO_ACTION, errors(3)),
    Scenario("5 errors, one a second", NO_ACTION, errors(5)),
    Scenario("6 errors, one a second", RESET_ERRORS, errors(6)),
    Scenario("8 errors, one a second", RESET_ERRORS, errors(8)),
    Scenario("10 errors, one a second", RESET_ERRORS, errors(10)),
    Scenario("after a soft heal, fresh window", NO_ACTION, errors(0)),
    Scenario("11 errors in a burst", RESTART_SERVICE, errors(11)),
    Scenario("15 errors in a burst", RESTART_SERVICE, errors(15)),
    Scenario("5 errors, no kernel signals", NO_ACTION, errors(5, seen=False)),
    Scenario("6 errors, no kernel signals", RESET_ERRORS, errors(6, seen=False)),
    Scenario("8 errors, no kernel signals", RESET_ERRORS, errors(8, seen=False)),
    Scenario("10 errors, no kernel signals", RESET_ERRORS, errors(10, seen=False)),
    Scenario("11 errors, no kernel signals", RESTART_SERVICE, errors(11, seen=False)),
    Scenario("15 errors, no kernel signals", RESTART_SERVICE, errors(15, seen=False)),
    Scenario("8 errors beside light traffic", RESET_ERRORS, {"error_count": 8} | traffic(0.8, 5)),
    Scenario("15 errors amid traffic", RESET_ERRORS, {"error_count": 15} | traffic(1.5, 9)),
    Scenario("200 errors amid traffic", RESET_ERRORS, {"error_count": 200} | traffic(10, 20)),
    Scenario(
        "says it is ill, serves well",
        NO_ACTION,
        {"error_count": 25, "cpu_usage": 97, "memory_usage": 97} | traffic(0, 20),
    ),
    Scenario(
        "says it is ill, only probes come",
        RESTART_SERVICE,
        {"error_count": 25, "cpu_usage": 97, "memory_usage": 97} | traffic(0, 0.8),
    ),
    Scenario("8 errors beside probes", RESET_ERRORS, {"error_count": 8} | traffic(0.8, 2.8)),
    Scenario("15 errors beside probes", RESTART_SERVICE, {"error_count": 15} | traffic(1.5, 1.7)),
    Scenario(
        "15 errors, two a second are well", RESET_ERRORS, {"error_count": 15} | traffic(1.5, 3.5)
    ),
    *(
        Scenario(f"{count} errors, a small service", action, BARE | errors(count))
        for count, action in ((5, NO_ACTION), (8, RESET_ERRORS), (15, RESTART_SERVICE))
    ),
    *(
        Scenario(
            f"{count} errors unseen, a small service", action, BARE | errors(count, seen=False)
        )
        for count, action in ((5, NO_ACTION), (8, RESET_ERRORS), (15, RESTART_SERVICE))
    ),
    Scenario("stuck, a small service", RESTART_SERVICE, BARE | {"health_failures": 3}),
    Scenario("old errors, one anew", RESET_ERRORS, {"error_count": 16} | traffic(0.1, 1.9)),
    Scenario("old errors, well served", NO_ACTION, {"error_count": 30} | traffic(0.1, 4)),
    Scenario("full cache, serves well", NO_ACTION, {"memory_usage": 85} | traffic(0, 8)),
    Scenario(
        "hangs for want of CPU",
        NO_ACTION,
        {"cpu_throttled_ratio": 0.9, "cpu_usage": 100, "health_failures": 4, "health_latency": 1.0},
    ),
    Scenario("lying, half fail, 2 req/s", RESET_ERRORS, traffic(1.2, 2.4), kernel_first=True),
    Scenario("lying, half fail, 20 req/s", RESET_ERRORS, traffic(10, 20), kernel_first=True),
    Scenario("lying, half fail, 200 req/s", RESET_ERRORS, traffic(100, 200), kernel_first=True),
    Scenario("lying, a quarter fails", RESET_ERRORS, traffic(5, 20), kernel_first=True),
    Scenario("lying, all fail", RESET_ERRORS, traffic(20, 20), kernel_first=True),
    Scenario(
        "lying, all fail, two polls failed",
        RESTART_SERVICE,
        {"health_failures": 2, "health_latency": 1.0} | traffic(20, 20),
    ),
    Scenario("one failed request, no others", NO_ACTION, traffic(0.1, 0.1)),
    Scenario("few 5xx among many", NO_ACTION, {"error_count": 4} | traffic(0.4, 40)),
    Scenario("many 5xx, a tiny share", NO_ACTION, {"error_count": 800} | traffic(80, 20_000)),
    Scenario("clients reset, 5 a second", NO_ACTION, {"tcp_reset_rate": 5} | traffic(0.0, 5)),
    Scenario("clients reset, 300 a second", NO_ACTION, {"tcp_reset_rate": 300}),
    Scenario("throttled, busy", NO_ACTION, {"cpu_throttled_ratio": 0.6, "cpu_usage": 100}),
    Scenario(
        "throttled, busy and slow",
        NO_ACTION,
        {"cpu_throttled_ratio": 0.95, "cpu_usage": 98, "health_latency": 0.7, "error_count": 2},
    ),
    Scenario("throttled, reported idle", NO_ACTION, {"cpu_throttled_ratio": 0.4, "cpu_usage": 20}),
    Scenario("throttled, but sick", RESET_ERRORS, {"cpu_throttled_ratio": 0.5} | errors(8)),
    Scenario("busy, not throttled", RESET_ERRORS, {"cpu_usage": 95}),
    Scenario("memory full", RESET_ERRORS, {"memory_usage": 95}),
    Scenario("cpu and memory full", RESTART_SERVICE, {"cpu_usage": 95, "memory_usage": 95}),
    Scenario("upstream fails", NO_ACTION, {"upstream_5xx_rate": 10} | traffic(10, 10)),
    Scenario(
        "upstream fails, errors counted",
        NO_ACTION,
        {"upstream_5xx_rate": 2, "error_count": 8} | traffic(2, 4),
    ),
    Scenario(
        "upstream fails, many errors counted",
        NO_ACTION,
        {"upstream_5xx_rate": 20, "error_count": 150} | traffic(15, 30),
    ),
    Scenario("one poll failed", NO_ACTION, {"health_failures": 1, "health_latency": 1.0}),
    Scenario("two polls failed", NO_ACTION, {"health_failures": 2, "health_latency": 1.0}),
    Scenario("stuck", RESTART_SERVICE, {"health_failures": 3, "health_latency": 1.0}),
    Scenario("clients left, /health well", RESTART_SERVICE, {"unanswered_ratio": 0.9}),
    Scenario(
        "half of the clients left, /health well",
        RESTART_SERVICE,
        {"unanswered_ratio": 0.5} | traffic(0, 6),
        kernel_first=True,
    ),
    Scenario(
        "clients left, a quota throttles",
        NO_ACTION,
        {"unanswered_ratio": 0.6, "cpu_throttled_ratio": 0.8, "cpu_usage": 100} | traffic(0, 3),
    ),
    Scenario(
        "clients left, a neighbour has the CPU",
        NO_ACTION,
        {"unanswered_ratio": 0.6, "cpu_pressure": 0.8} | traffic(0, 3),
    ),
    Scenario(
        "clients left, its backend is silent",
        NO_ACTION,
        {"unanswered_ratio": 0.6, "upstream_waiting_ratio": 1.0},
    ),
    Scenario(
        "clients left, its backend refuses",
        NO_ACTION,
        {"unanswered_ratio": 0.6, "upstream_refused_rate": 3.0},
    ),
    Scenario("slow responses", NO_ACTION, traffic(0, 4) | {"response_time": 12.0}),
    Scenario("stuck, refused at once", RESTART_SERVICE, {"health_failures": 5}),
    Scenario("50,000 requests a second", NO_ACTION, {"cpu_usage": 70} | traffic(100, 50_000)),
    Scenario("slow answers", NO_ACTION, {"health_latency": 0.9}),
    Scenario("bad network", NO_ACTION, {"tcp_retransmit_rate": 200, "tcp_reset_rate": 3}),
)
