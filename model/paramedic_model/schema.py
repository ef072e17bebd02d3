"""The contract with the agent: columns, classes and their order.

crates/core/src/features/schema.rs is the other side.
"""

from typing import Final

VERSION: Final = 2

FEATURES: Final = (
    "cpu_usage",
    "memory_usage",
    "error_count",
    "uptime",
    "hour_of_day",
    "http_5xx_rate",
    "http_5xx_ratio",
    "http_request_rate",
    "tcp_reset_rate",
    "tcp_retransmit_rate",
    "cpu_throttled_ratio",
    "health_failures",
    "health_latency",
    "upstream_5xx_rate",
    "unanswered_ratio",
    "response_time",
    "upstream_waiting_ratio",
    "upstream_refused_rate",
    "cpu_pressure",
)

# The columns that version 2 brought: recordings from before lack them.
ADDED: Final = FEATURES[14:]

# What the app says: the columns of the original system.
HEALTH_FEATURES: Final = FEATURES[:5]

# What the kernel saw, as opposed to what the app or the poll of /health said.
KERNEL_FEATURES: Final = FEATURES[5:11] + FEATURES[13:]

CLASSES: Final = ("no_action", "reset_errors", "restart_service")
NO_ACTION, RESET_ERRORS, RESTART_SERVICE = range(3)
