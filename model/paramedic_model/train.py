"""The training from recorded episodes to the files that are shipped."""

import datetime
import hashlib
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from paramedic_model import brain as brains
from paramedic_model import (
    checks,
    export,
    generate,
    golden,
    lab_report,
    plots,
    recorded,
    report,
    rowfile,
    schema,
)
from paramedic_model.brain import Brain
from paramedic_model.checks import CheckFailed, Result
from paramedic_model.generate import Dataset
from paramedic_model.recorded import Data, Recorded, Recordings
from paramedic_model.report import Made, Scores
from paramedic_model.strangers import familiarity, leave_each_out

SEED: Final = 2026
TRAIN_ROWS: Final = 60_000
TEST_ROWS: Final = 10_000
PARITY_ROWS: Final = 10_000
# Synthetic rows are independent of each other; folds need no more than so many groups of them.
SYNTHETIC_GROUPS: Final = 100
# A new model may be this much worse on the held-out episodes: that is noise.
TOLERANCE: Final = 0.002

MODEL: Final = "healing_brain.onnx"
GOLDEN: Final = "golden.json"
REPORT: Final = "REPORT.md"
PLOTS: Final = "plots"


def train(
    out: Path, against: Path | None, recordings: Recordings, old: Path | None, *, force: bool
) -> None:
    """Trains on the recordings."""
    say("Reading recorded episodes")
    folders = [*recordings.shipped, *recordings.others]
    data = recorded.load(recordings, SEED)
    for what, count in data.told.items():
        step(f"{what}: {count:,}")
    say(f"Generating {TRAIN_ROWS + TEST_ROWS:,} synthetic rows")
    learn, test = generate.generate(TRAIN_ROWS, SEED), generate.generate(TEST_ROWS, SEED + 1)
    say("Training")
    started = time.monotonic()
    brain = fit(learn, data.learn, slice(None), step)
    say(f"Trained {brain.node_count():,} nodes in {time.monotonic() - started:.0f} s")
    say("Training on the five columns of /health alone, to compare")
    blind = fit(learn, data.learn, slice(len(schema.HEALTH_FEATURES)), step)
    scores = Scores.of(brain, test)
    show(brain, scores)
    trial = lab_report.Trial.of(brain, blind, data, old)
    say("Leaving out each foreign service in turn")
    strangers = leave_each_out(
        learn, data, lambda rows, real: fit(rows, real, slice(None), lambda _: None), step
    )
    known = familiarity(data.learn, strangers.most)
    print(f"\nOn held-out episodes\n{trial.summary()}", flush=True)

    about = provenance(learn, test, data, folders) | {
        "held_out_accuracy": round(scores.accuracy(), 4),
        "held_out_macro_f1_recorded": round(trial.new.f1, 4),
        "held_out_macro_f1_services": round(strangers.f1(), 4) if strangers.all else None,
    }
    model = export.to_model(brain, known, about).SerializeToString(deterministic=True)
    say("Checking the verdicts and the export")
    results = [*check(brain, model, test, data), checks.check_familiar(known)]
    if against:
        results += compare(model, against)
    for result in results:
        step(f"{result.name}: {result.outcome}")
    if trial.old and trial.is_worse(TOLERANCE) and not force:
        raise CheckFailed(
            f"the new model is worse than {old} (SHA-256 {trial.old_sha256}) on the same held-out "
            f"episodes (macro-F1 {trial.new.f1:.4f} against {trial.old.f1:.4f}); nothing was "
            "written, --force would"
        )
    lab = f"{strangers.report()}\n\n{trial.report(PLOTS)}".strip()
    write(out, Made(brain, known, model, about, results), test, lab, data)
    say(f"Wrote {MODEL} ({len(model):,} bytes), {GOLDEN}, {REPORT} and {PLOTS}/ to {out}")


def fit(learn: Dataset, real: Recorded, columns: slice, tell: Callable[[str], None]) -> Brain:
    """A forest on synthetic and recorded rows; columns that it may not use are hidden from it."""
    rows = np.concatenate([learn.rows, real.rows])
    hidden = np.zeros_like(rows)
    hidden[:, columns] = rows[:, columns]
    labels = np.concatenate([learn.labels, real.labels])
    _, episode = np.unique(real.episode, return_inverse=True)
    synthetic = np.arange(len(learn.labels)) % SYNTHETIC_GROUPS
    groups = np.concatenate([synthetic, SYNTHETIC_GROUPS + episode])
    return brains.fit(hidden, labels, groups, SEED, tell)


def say(text: str) -> None:
    print(f"\n{text}", flush=True)


def step(text: str) -> None:
    print(f"  {text}", flush=True)


def show(brain: Brain, scores: Scores) -> None:
    print(f"\nAccuracy on held-out rows: {scores.accuracy():.2%}")
    print(f"\nClassification report\n{scores.classification()}")
    print(f"Feature importances\n{report.importances(brain)}")
    print(f"\nSample\n{report.sample_prediction(brain)}", flush=True)


def check(brain: Brain, model: bytes, test: Dataset, data: Data) -> list[Result]:
    rows = np.concatenate([test.rows[:PARITY_ROWS], data.held_out.rows])
    rows = np.concatenate([rows, checks.threshold_rows(brain, rows, SEED)])
    return [
        checks.check_parity(brain, export.run(model, rows), rows),
        checks.check_surface(brain),
        checks.check_scenarios(brain),
        checks.check_invariance(brain, data.held_out.rows),
    ]


def compare(model: bytes, against: Path) -> list[Result]:
    """The committed model and this one, both against the committed golden rows."""
    expected = json.loads((against / GOLDEN).read_text(encoding="utf-8"))
    committed = (against / MODEL).read_bytes()
    if sha256(committed) != expected["model_sha256"]:
        raise CheckFailed(f"{against / MODEL} and {GOLDEN} are not from the same training")
    return [
        golden.check(committed, expected, "committed"),
        golden.check(model, expected, "retrained"),
    ]


def provenance(
    learn: Dataset, test: Dataset, data: Data, folders: Sequence[Path]
) -> dict[str, Any]:
    return {
        "trained_at": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "data": "recorded and synthetic",
        "generator": {"name": generate.NAME, "version": generate.VERSION, "seed": SEED},
        "recorded": {
            "rows_sha256": [sha256((f / rowfile.NAME).read_bytes()) for f in folders],
            **data.told,
        },
        "rows": {
            "train": {"synthetic": len(learn.rows), "recorded": len(data.learn)},
            "held_out": {"synthetic": len(test.rows), "recorded": len(data.held_out)},
        },
        "libraries": report.versions(),
    }


def write(out: Path, made: Made, test: Dataset, lab: str, data: Data) -> None:
    out.mkdir(parents=True, exist_ok=True)
    golden.write(out / GOLDEN, made, test.rows, SEED)
    (out / PLOTS).mkdir(exist_ok=True)
    for name, drawing in plots.draw_all(made.brain, data.as_recorded):
        (out / PLOTS / f"{name}.svg").write_text(drawing, encoding="utf-8")
    card = report.render(made, test, lab)
    (out / REPORT).write_text(card, encoding="utf-8")
    (out / MODEL).write_bytes(made.model)


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
