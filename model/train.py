"""Trains the shipped forest; `cargo xtask train` runs it with its pinned libraries.

Nothing is written unless every check holds: see `checks.py`.
"""

import argparse
import datetime
import hashlib
import json
import sys
import time
from pathlib import Path
from typing import Any, Final

import numpy as np

import brain as brains
import checks
import export
import generate
import golden
import report
from brain import Brain
from checks import CheckFailed, Result
from generate import Dataset
from report import Scores

SEED: Final = 2026
TRAIN_ROWS: Final = 40_000
TEST_ROWS: Final = 10_000
PARITY_ROWS: Final = 10_000

MODEL: Final = "healing_brain.onnx"
GOLDEN: Final = "golden.json"
REPORT: Final = "REPORT.md"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    here = Path(__file__).parent
    parser.add_argument("--out", type=Path, default=here, help="folder for the files written")
    parser.add_argument("--against", type=Path, help="folder whose golden rows must be repeated")
    args = parser.parse_args()
    try:
        train(args.out, args.against)
    except CheckFailed as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def train(out: Path, against: Path | None) -> None:
    say(f"Generating {TRAIN_ROWS + TEST_ROWS:,} synthetic rows")
    learn, test = generate.generate(TRAIN_ROWS, SEED), generate.generate(TEST_ROWS, SEED + 1)
    say("Training")
    started = time.monotonic()
    brain = brains.fit(learn.rows, learn.labels, SEED, step)
    say(f"Trained {brain.node_count():,} nodes in {time.monotonic() - started:.0f} s")
    scores = Scores.of(brain, test)
    show(brain, scores)

    about = provenance(scores, learn, test)
    model = export.to_model(brain, about).SerializeToString(deterministic=True)
    say("Checking the verdicts and the export")
    results = check(brain, model, test)
    if against:
        results += compare(model, against)
    for result in results:
        step(f"{result.name}: {result.outcome}")
    write(out, brain, model, test, results, about)
    say(f"Wrote {MODEL} ({len(model):,} bytes), {GOLDEN} and {REPORT} to {out}")


def say(text: str) -> None:
    print(f"\n{text}", flush=True)


def step(text: str) -> None:
    print(f"  {text}", flush=True)


def show(brain: Brain, scores: Scores) -> None:
    print(f"\nAccuracy on held-out rows: {scores.accuracy():.2%}")
    print(f"\nClassification report\n{scores.classification()}")
    print(f"Feature importances\n{report.importances(brain)}")
    print(f"\nSample\n{report.sample_prediction(brain)}", flush=True)


def check(brain: Brain, model: bytes, test: Dataset) -> list[Result]:
    rows = test.rows[:PARITY_ROWS]
    rows = np.concatenate([rows, checks.threshold_rows(brain, rows, SEED)])
    return [
        checks.check_parity(brain, export.run(model, rows), rows),
        checks.check_surface(brain),
        checks.check_scenarios(brain),
        checks.check_invariance(brain),
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


def provenance(scores: Scores, learn: Dataset, test: Dataset) -> dict[str, Any]:
    return {
        "trained_at": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "data": "synthetic",
        "generator": {"name": generate.NAME, "version": generate.VERSION, "seed": SEED},
        "rows": {"train": len(learn.rows), "held_out": len(test.rows)},
        "libraries": report.versions(),
        "held_out_accuracy": round(scores.accuracy(), 4),
    }


def write(
    out: Path,
    brain: Brain,
    model: bytes,
    test: Dataset,
    results: list[Result],
    about: dict[str, Any],
) -> None:
    digest = sha256(model)
    out.mkdir(parents=True, exist_ok=True)
    golden.write(out / GOLDEN, brain, test.rows, SEED, digest)
    card = report.render(brain, test, results, about, model, digest)
    (out / REPORT).write_text(card, encoding="utf-8")
    (out / MODEL).write_bytes(model)


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


if __name__ == "__main__":
    sys.exit(main())
