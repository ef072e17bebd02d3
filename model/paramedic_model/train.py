"""The training from recorded episodes to the files that are shipped."""

import datetime
import hashlib
import json
import time
from dataclasses import dataclass
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
from paramedic_model.contest import Contender, Contest
from paramedic_model.generate import Dataset
from paramedic_model.lab_report import Trial
from paramedic_model.recorded import Data, Recorded, Recordings
from paramedic_model.report import Made, Scores
from paramedic_model.strangers import familiarity, leave_each_out
from paramedic_model.trees import Ints, Rows

SEED: Final = 2026
TRAIN_ROWS: Final = 60_000
TEST_ROWS: Final = 10_000
PARITY_ROWS: Final = 10_000
# Synthetic rows are independent of each other; folds need no more than so many groups of them.
SYNTHETIC_GROUPS: Final = 100
# A model may be this much worse on the held-out episodes: that is noise.
TOLERANCE: Final = 0.002

FOREST: Final = "forest"
BOOSTED: Final = "boosted"
KINDS: Final = (FOREST, BOOSTED)
# What is trained unless another kind is asked for: the kind that ships.
KIND: Final = BOOSTED

MODEL: Final = "healing_brain.onnx"
GOLDEN: Final = "golden.json"
REPORT: Final = "REPORT.md"
PLOTS: Final = "plots"


@dataclass(frozen=True)
class Order:
    """What is to be trained, from what, and where it goes."""

    out: Path
    recordings: Recordings
    against: Path | None = None
    """A folder whose golden rows must be repeated."""
    old: Path | None = None
    """A model to be no worse than."""
    kind: str = KIND
    compare: bool = False
    """Also against the other kind."""
    force: bool = False
    """Write a model that is worse."""


def train(order: Order) -> None:
    say("Reading recorded episodes")
    data = recorded.load(order.recordings, SEED)
    for what, count in data.told.items():
        step(f"{what}: {count:,}")
    say(f"Generating {TRAIN_ROWS + TEST_ROWS:,} synthetic rows")
    learn, test = generate.generate(TRAIN_ROWS, SEED), generate.generate(TEST_ROWS, SEED + 1)
    say(f"Training: {order.kind}")
    started = time.monotonic()
    brain = fit(order.kind, learn, data.learn, slice(None))
    nodes = brain.trees.node_count()
    say(f"Trained {nodes:,} nodes in {time.monotonic() - started:.0f} s")
    say("Training on the five columns of /health alone, to compare")
    blind = fit(order.kind, learn, data.learn, slice(len(schema.HEALTH_FEATURES)))
    scores = Scores.of(brain, test)
    show(brain, scores)
    trial = lab_report.Trial.of(brain, blind, data, order.old)
    say("Leaving out each foreign service in turn")
    strangers = leave_each_out(data, lambda real: fit_without(brain, learn, real), step)
    known = familiarity(data.learn, strangers.most)
    print(f"\nOn held-out episodes\n{trial.summary()}", flush=True)

    about = provenance(learn, test, data, order) | {
        "held_out_accuracy": round(scores.accuracy(), 4),
        "held_out_macro_f1_recorded": round(trial.new.f1, 4),
        "held_out_macro_f1_services": round(strangers.f1(), 4) if strangers.all else None,
    }
    model = export.to_model(brain, known, about).SerializeToString(deterministic=True)
    say("Checking the verdicts and the export")
    results = [*check(brain, model, test, data), checks.check_familiar(known)]
    if order.against:
        results += compare(model, order.against)
    for result in results:
        step(f"{result.name}: {result.outcome}")
    made = Made(brain, known, model, about, results)
    contest = contend(made, learn, test, data, order) if order.compare else None
    if not order.force:
        refuse_worse(trial, contest, order)
    parts = (strangers.report(), trial.report(PLOTS), contest.report() if contest else "")
    write(order.out, made, test, data, parts)
    say(f"Wrote {MODEL} ({len(model):,} bytes), {GOLDEN}, {REPORT} and {PLOTS}/ to {order.out}")


def contend(made: Made, learn: Dataset, test: Dataset, data: Data, order: Order) -> Contest:
    """The other kind, trained on the same rows and put to the same checks."""
    (kind,) = (k for k in KINDS if k != order.kind)
    say(f"Training the other kind, to compare: {kind}")
    brain = fit(kind, learn, data.learn, slice(None))
    model = export.to_model(brain, made.known, {}).SerializeToString(deterministic=True)
    failed = ""
    try:
        check(brain, model, test, data)
    except CheckFailed as error:
        failed = str(error)
    contest = Contest(
        data.held_out,
        Contender.of(order.kind, made.brain, made.model, data.held_out),
        Contender.of(kind, brain, model, data.held_out, failed),
    )
    print(f"\nThe kinds on held-out episodes\n{contest.summary()}", flush=True)
    return contest


def refuse_worse(trial: Trial, contest: Contest | None, order: Order) -> None:
    if trial.is_worse(TOLERANCE):
        raise CheckFailed(
            f"the new model is worse than {order.old} (SHA-256 {trial.old_sha256}) on the same "
            f"held-out episodes (macro-F1 {trial.new.f1:.4f} against {trial.old_f1():.4f}); "
            "nothing was written, --force would"
        )
    if contest and contest.other_is_better(TOLERANCE):
        raise CheckFailed(
            f"{contest.other.kind} is the better kind on the same held-out episodes (macro-F1 "
            f"{contest.other.judged.f1:.4f} against {contest.shipped.judged.f1:.4f}); nothing was "
            f"written: train with --kind {contest.other.kind}, or --force"
        )


def fit(kind: str, learn: Dataset, real: Recorded, columns: slice) -> Brain:
    """A model on synthetic and recorded rows; columns that it may not use are hidden from it."""
    rows, labels = together(learn, real)
    hidden = np.zeros_like(rows)
    hidden[:, columns] = rows[:, columns]
    if kind == BOOSTED:
        return brains.fit_boosted(hidden, labels, SEED)
    _, episode = np.unique(real.episode, return_inverse=True)
    synthetic = np.arange(len(learn.labels)) % SYNTHETIC_GROUPS
    groups = np.concatenate([synthetic, SYNTHETIC_GROUPS + episode])
    return brains.fit_forest(hidden, labels, groups, SEED, step)


def fit_without(brain: Brain, learn: Dataset, real: Recorded) -> Brain:
    """What the model would be without some rows; its calibration, of six numbers, is kept."""
    return brains.refit(brain, *together(learn, real), SEED)


def together(learn: Dataset, real: Recorded) -> tuple[Rows, Ints]:
    """All rows and their labels, the synthetic ones first."""
    rows = np.concatenate([learn.rows, real.rows])
    return rows, np.concatenate([learn.labels, real.labels])


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


def provenance(learn: Dataset, test: Dataset, data: Data, order: Order) -> dict[str, Any]:
    return {
        "kind": order.kind,
        "trained_at": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "data": "recorded and synthetic",
        "generator": {"name": generate.NAME, "version": generate.VERSION, "seed": SEED},
        "recorded": {
            "rows_sha256": [
                sha256((f / rowfile.NAME).read_bytes()) for f in order.recordings.all()
            ],
            **data.told,
        },
        "rows": {
            "train": {"synthetic": len(learn.rows), "recorded": len(data.learn)},
            "held_out": {"synthetic": len(test.rows), "recorded": len(data.held_out)},
        },
        "libraries": report.versions(),
    }


def write(out: Path, made: Made, test: Dataset, data: Data, parts: tuple[str, ...]) -> None:
    out.mkdir(parents=True, exist_ok=True)
    golden.write(out / GOLDEN, made, test.rows, SEED)
    (out / PLOTS).mkdir(exist_ok=True)
    for name, drawing in plots.draw_all(made.brain, data.as_recorded):
        (out / PLOTS / f"{name}.svg").write_text(drawing, encoding="utf-8")
    card = report.render(made, test, "\n\n".join(filter(None, parts)))
    (out / REPORT).write_text(card, encoding="utf-8")
    (out / MODEL).write_bytes(made.model)


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
