"""What the tests share: small models of both kinds, the shipped recording, and small ones."""

from pathlib import Path

import numpy as np
import pytest

from paramedic_model import brain as brains
from paramedic_model import export, familiar, generate, recorded
from paramedic_model.__main__ import DATA, HOME
from paramedic_model.brain import Brain, Calibration
from paramedic_model.familiar import Familiarity
from paramedic_model.generate import Dataset
from paramedic_model.recorded import Data, Recordings
from paramedic_model.report import Made
from paramedic_model.rowfile import COLUMNS
from paramedic_model.schema import ADDED, FEATURES
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
    return brains.fit_forest(learnt.rows, learnt.labels, groups, SEED, lambda _: None)


@pytest.fixture(scope="session")
def calibration(brain: Brain) -> Calibration:
    assert brain.calibration
    return brain.calibration


@pytest.fixture(scope="session")
def boosted(learnt: Dataset) -> Brain:
    return brains.fit_boosted(learnt.rows, learnt.labels, SEED)


@pytest.fixture(scope="session")
def known(learnt: Dataset) -> Familiarity:
    return familiar.learn(learnt.rows, np.arange(len(learnt.rows)).astype(str), 5)


@pytest.fixture(scope="session")
def model(brain: Brain, known: Familiarity) -> bytes:
    proto = export.to_model(brain, known, {"why": "a test"})
    return proto.SerializeToString(deterministic=True)


@pytest.fixture(scope="session")
def made(brain: Brain, known: Familiarity, model: bytes) -> Made:
    return Made(brain, known, model, {"why": "a test"}, [])


@pytest.fixture(scope="session")
def shipped() -> Data:
    """The recording in the repository, as training reads it."""
    return recorded.load(Recordings([HOME / folder for folder in DATA]), SEED)


@pytest.fixture
def record(tmp_path: Path) -> Record:
    """Writes a folder with episodes of three rows, the middle one without a label."""

    def write(name: str, episodes: range, *, old: bool = False) -> Path:
        lines: list[list[object]] = []
        for number, content in enumerate(episodes):
            for at, label in enumerate(["no_action", "", "restart_service"]):
                row = [number, "stuck", "no_action", "during", label, at]
                lines.append([*row, content, *([at] * (len(FEATURES) - 1))])
        return write_rows(tmp_path / name, lines, len(COLUMNS) - (len(ADDED) if old else 0))

    return write
