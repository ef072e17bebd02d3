"""The contract with the agent is written twice, and both must say the same."""

import re

from paramedic_model.__main__ import HOME
from paramedic_model.schema import CLASSES, FEATURES, HEALTH_FEATURES, KERNEL_FEATURES, VERSION

CORE = HOME.parent / "crates" / "core" / "src"


def strings(source: str, name: str) -> list[str]:
    found = re.search(rf"pub const {name}: \[&str; \w+\] = \[(.*?)\];", source, re.DOTALL)
    assert found, name
    return re.findall(r'"(\w+)"', found[1])


def test_the_agent_measures_these_columns_in_this_order() -> None:
    source = (CORE / "features" / "schema.rs").read_text(encoding="utf-8")
    assert strings(source, "FEATURES") == list(FEATURES)
    assert f"pub const SCHEMA_VERSION: u32 = {VERSION};" in source


def test_the_agent_knows_these_classes_in_this_order() -> None:
    source = (CORE / "decide" / "mod.rs").read_text(encoding="utf-8")
    assert strings(source, "CLASSES") == list(CLASSES)


def test_no_column_is_both_the_apps_word_and_the_kernels() -> None:
    polled = {"health_failures", "health_latency"}
    assert set(HEALTH_FEATURES).isdisjoint(KERNEL_FEATURES)
    assert {*HEALTH_FEATURES, *KERNEL_FEATURES, *polled} == set(FEATURES)
