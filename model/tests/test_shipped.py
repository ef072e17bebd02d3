"""The files in the repository: they belong together, and to this code."""

import hashlib
import json
from typing import Any

import numpy as np
import pytest

from paramedic_model import checks, export, generate, golden
from paramedic_model.__main__ import DATA, HOME
from paramedic_model.brain import probabilities
from paramedic_model.recorded import Data
from paramedic_model.rowfile import NAME
from paramedic_model.schema import CLASSES, FEATURES, VERSION
from paramedic_model.train import GOLDEN, MODEL, PLOTS, REPORT, SEED, TEST_ROWS, TRAIN_ROWS


@pytest.fixture(scope="module")
def file() -> bytes:
    return (HOME / MODEL).read_bytes()


@pytest.fixture(scope="module")
def card() -> str:
    return (HOME / REPORT).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def provenance(file: bytes) -> dict[str, Any]:
    read: dict[str, Any] = json.loads(export.properties(file)["provenance"])
    return read


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_the_model_repeats_its_golden_rows(file: bytes) -> None:
    expected = json.loads((HOME / GOLDEN).read_text(encoding="utf-8"))
    assert expected["model_sha256"] == sha256(file)
    golden.check(file, expected, "shipped")


def test_the_model_keeps_the_known_surface(file: bytes) -> None:
    rows = checks.surface_rows({})
    scores = export.run(file, rows)[1].astype(np.float64)
    p = probabilities(scores, golden.read_calibration(file))
    assert (p.argmax(axis=1) == checks.surface_actions(rows)).all()
    assert p.max(axis=1)[checks.must_be_sure(rows)].min() >= checks.SURE


def test_the_metadata_is_of_this_schema(file: bytes) -> None:
    found = export.properties(file)
    assert found["feature_schema_version"] == str(VERSION)
    assert json.loads(found["feature_names"]) == list(FEATURES)
    assert json.loads(found["class_labels"]) == list(CLASSES)
    calibration = golden.read_calibration(file)
    if calibration:
        assert calibration.a.shape == calibration.b.shape == (len(CLASSES),)


def test_the_model_came_of_the_recording_beside_it(
    provenance: dict[str, Any], shipped: Data
) -> None:
    """Read by this code: what changes how a recording is read calls for a training."""
    digests = [sha256((HOME / folder / NAME).read_bytes()) for folder in DATA]
    assert provenance["recorded"] == {"rows_sha256": digests} | shipped.told
    assert provenance["rows"] == {
        "train": {"synthetic": TRAIN_ROWS, "recorded": len(shipped.learn)},
        "held_out": {"synthetic": TEST_ROWS, "recorded": len(shipped.held_out)},
    }


def test_the_model_came_of_this_generator(provenance: dict[str, Any]) -> None:
    expected = {"name": generate.NAME, "version": generate.VERSION, "seed": SEED}
    assert provenance["generator"] == expected


def test_the_model_came_of_the_pinned_libraries(provenance: dict[str, Any]) -> None:
    lines = (HOME / "requirements.txt").read_text(encoding="utf-8").splitlines()
    pinned = dict(line.split("==") for line in lines if not line.startswith("#"))
    libraries = {name: v for name, v in provenance["libraries"].items() if name != "python"}
    assert libraries.items() <= pinned.items()


def test_the_report_is_of_the_model_and_shows_its_provenance(
    file: bytes, card: str, provenance: dict[str, Any]
) -> None:
    assert f"- SHA-256 `{sha256(file)}`" in card
    assert f"{len(file):,} bytes" in card
    assert f"```\n{json.dumps(provenance, indent=2)}\n```" in card


def test_each_kind_in_the_report_has_its_plot(card: str, shipped: Data) -> None:
    kinds = np.unique(shipped.held_out.kind).tolist()
    assert sorted(p.stem for p in (HOME / PLOTS).glob("*.svg")) == kinds
    assert all(f"]({PLOTS}/{kind}.svg)" in card for kind in kinds)
