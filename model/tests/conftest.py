"""What the tests share: one small forest, the shipped recording, and small ones."""

from pathlib import Path

import numpy as np
import pytest

from paramedic_model import brain as brains
from paramedic_model import export, generate, recorded
from paramedic_model.__main__ import HOME
from paramedic_model.brain import Brain
from paramedic_model.generate import Dataset
from paramedic_model.recorded import Data
from paramedic_model.schema import FEATURES
from paramedic_model.train import SEED
from tests.recording import Record, write_rows

ROWS = 4000


@pytest.fixture(scope="session")
def learnt() -> Dataset:
    return generate.generate(ROWS, 1)


@pytest.fixture(scope="session")
def unseen() -> Dataset:
    return generate.generate(ROWS, 2)


@pytest.fixture(scope="session")
def brain(learnt: Dataset) -> Brain:
    groups = np.arange(len(learnt.labels)) % 20
    return brains.fit(learnt.rows, learnt.labels, groups, SEED, lambda _: None)


@pytest.fixture(scope="session")
def model(brain: Brain) -> bytes:
    return export.to_model(brain, {"why": "a test"}).SerializeToString(deterministic=True)


@pytest.fixture(scope="session")
def shipped() -> Data:
    """The recording in the repository, as training reads it."""
    return recorded.load([HOME / "data"], SEED)


@pytest.fixture
def record(tmp_path: Path) -> Record:
    """Writes a folder with episodes of three rows, the middle one without a label."""

    def write(name: str, episodes: range) -> Path:
        lines: list[list[object]] = []
        for number, content in enumerate(episodes):
            for at, label in enumerate(["no_action", "", "restart_service"]):
                row = [number, "stuck", "no_action", "during", label, at]
                lines.append([*row, content, *([at] * (len(FEATURES) - 1))])
        return write_rows(tmp_path / name, lines)

    return write
