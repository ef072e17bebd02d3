"""The program: what it writes, when it writes nothing, and what it says then."""

import json
from pathlib import Path

import pytest

from paramedic_model import __main__ as program
from paramedic_model import checks, golden, train
from paramedic_model.__main__ import main
from paramedic_model.checks import CheckFailed, Result
from paramedic_model.contest import Contest
from paramedic_model.rowfile import NAME
from paramedic_model.train import KINDS
from tests.recording import Record


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch, record: Record) -> Path:
    """A training of seconds, on a recording of its own."""
    home = record("home/data", range(12)).parent
    monkeypatch.setattr(program, "HOME", home)
    monkeypatch.setattr(program, "DATA", ("data",))
    monkeypatch.setattr(train, "TRAIN_ROWS", 1000)
    monkeypatch.setattr(train, "TEST_ROWS", 1000)
    return home


def complaint(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(arguments) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert "Traceback" not in said
    return said


def test_a_forest_that_fails_in_a_check_is_not_written(
    small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    said = complaint(capsys, "--out", str(out))
    assert "decision surface" in said or "scenario" in said
    assert not out.exists()
    assert [p.name for p in small.iterdir()] == ["data"]


@pytest.fixture
def lenient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A training of seconds learns no surface and no scenario."""
    for name in ("check_surface", "check_scenarios", "check_invariance"):
        monkeypatch.setattr(checks, name, lambda *_: Result("a check", "held"))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.usefixtures("lenient")
def test_a_model_that_holds_is_written_with_all_that_belongs_to_it(
    kind: str, small: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    assert main(["--out", str(out), "--kind", kind]) == 0
    written = sorted(p.relative_to(out).as_posix() for p in out.rglob("*"))
    assert written == ["REPORT.md", "golden.json", "healing_brain.onnx", "plots", "plots/stuck.svg"]
    model = (out / "healing_brain.onnx").read_bytes()
    expected = json.loads((out / "golden.json").read_text(encoding="utf-8"))
    golden.check(model, expected | {"scenarios": expected["scenarios"][:1]}, "new")
    card = (out / "REPORT.md").read_text(encoding="utf-8")
    assert expected["model_sha256"] in card
    assert f'"kind": "{kind}"' in card
    assert "Both kinds" not in card
    assert [p.name for p in small.iterdir()] == ["data"]


@pytest.mark.usefixtures("lenient", "small")
def test_the_report_of_a_comparison_shows_both_kinds(tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert main(["--out", str(out), "--compare", "--kind", "forest", "--force"]) == 0
    card = (out / "REPORT.md").read_text(encoding="utf-8")
    assert "### Both kinds" in card
    assert "`forest` ships: its macro-F1 is" in card
    assert "| boosted |" in card


@pytest.mark.usefixtures("lenient", "small")
def test_the_worse_kind_is_not_written_without_force(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Contest, "other_is_better", lambda *_: True)
    out = tmp_path / "out"
    said = complaint(capsys, "--out", str(out), "--compare", "--kind", "forest")
    assert "boosted is the better kind" in said
    assert "train with --kind boosted, or --force" in said
    assert not out.exists()


@pytest.mark.parametrize("content", [None, b"no gzip", b""])
def test_recordings_that_cannot_be_read_are_named(
    small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes | None
) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    if content is not None:
        (folder / NAME).write_bytes(content)
    said = complaint(capsys, "--recorded", str(folder), "--out", str(small))
    assert str(folder / NAME) in said
    assert [p.name for p in small.iterdir()] == ["data"]


def test_files_of_two_trainings_are_not_compared(tmp_path: Path) -> None:
    (tmp_path / "healing_brain.onnx").write_bytes(b"one")
    (tmp_path / "golden.json").write_text('{"model_sha256": "of another"}', encoding="utf-8")
    with pytest.raises(CheckFailed, match="not from the same training"):
        train.compare(b"new", tmp_path)
