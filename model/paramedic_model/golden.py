"""golden.json: rows and what the library says of them, for the tests of every engine."""

import json
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from paramedic_model import export
from paramedic_model.brain import Brain, Calibration, probabilities
from paramedic_model.checks import PARITY, CheckFailed, Result, threshold_rows
from paramedic_model.report import Made
from paramedic_model.scenarios import MIN_CONFIDENCE, SCENARIOS
from paramedic_model.schema import CLASSES, FEATURES

RANDOM_ROWS: Final = 150
THRESHOLD_ROWS: Final = 250
# The calibration's slope multiplies what two engines may differ by.
CALIBRATED_PARITY: Final = 1e-5
# Rows this close to a tie could get another label from an engine that adds in another order.
TIE: Final = 1e-4

Rows = NDArray[np.float32]


def write(path: Path, made: Made, rows: Rows, seed: int) -> None:
    brain = made.brain
    chosen = choose(brain, rows, seed)
    raw, calibrated = brain.raw(chosen), brain.calibrated(chosen)
    golden = {
        "model_sha256": made.sha256(),
        "feature_names": FEATURES,
        "class_labels": CLASSES,
        "rows": [
            {"features": f, "raw": r, "calibrated": c, "unseen": u}
            for f, r, c, u in zip(
                chosen.tolist(),
                raw.tolist(),
                calibrated.tolist(),
                made.known.unseen(chosen).tolist(),
                strict=True,
            )
        ],
        "scenarios": [
            {
                "name": s.name,
                "row": s.row().tolist(),
                "action": CLASSES[s.action],
                "min_confidence": MIN_CONFIDENCE,
            }
            for s in SCENARIOS
        ],
    }
    path.write_text(one_row_a_line(golden), encoding="utf-8")


def choose(brain: Brain, rows: Rows, seed: int) -> Rows:
    """Random rows, then rows on or one step past a threshold; none near a tie."""
    on = threshold_rows(brain, rows, seed)
    pick = [untied(brain, rows)[:RANDOM_ROWS], untied(brain, on)[-THRESHOLD_ROWS:]]
    return np.concatenate(pick)


def untied(brain: Brain, rows: Rows) -> Rows:
    ranked = np.sort(brain.calibrated(rows), axis=1)
    return rows[ranked[:, -1] - ranked[:, -2] > TIE]


def one_row_a_line(golden: dict[str, Any]) -> str:
    """JSON that a diff can show."""
    parts = []
    for key, value in golden.items():
        if isinstance(value, list):
            text = "[\n" + ",\n".join(json.dumps(v) for v in value) + "\n]"
        else:
            text = json.dumps(value)
        parts.append(f"{json.dumps(key)}: {text}")
    return "{\n" + ",\n".join(parts) + "\n}\n"


def check(model: bytes, golden: dict[str, Any], whose: str) -> Result:
    """Whether a model's file repeats the golden rows and scenarios."""
    rows = np.array([r["features"] for r in golden["rows"]], dtype=np.float32)
    raw = export.run(model, rows)[1].astype(np.float64)
    calibration = read_calibration(model)
    off = difference(raw, golden["rows"], "raw")
    off_calibrated = difference(probabilities(raw, calibration), golden["rows"], "calibrated")
    if off > PARITY or off_calibrated > CALIBRATED_PARITY:
        raise CheckFailed(
            f"{whose} model is not the one of golden.json: probabilities differ by {off:.1e} "
            f"(calibrated {off_calibrated:.1e}); run `cargo xtask train` and commit its files"
        )
    check_scenarios(model, calibration, golden, whose)
    return Result(f"{whose} model against golden.json", f"largest difference {off:.1e}")


def check_scenarios(
    model: bytes, calibration: Calibration | None, golden: dict[str, Any], whose: str
) -> None:
    rows = np.array([s["row"] for s in golden["scenarios"]], dtype=np.float32)
    p = probabilities(export.run(model, rows)[1].astype(np.float64), calibration)
    for scenario, said in zip(golden["scenarios"], p, strict=True):
        action = CLASSES.index(scenario["action"])
        if said.argmax() != action or said[action] < scenario["min_confidence"]:
            raise CheckFailed(f"{whose} model, scenario “{scenario['name']}”: {said.round(3)}")


def difference(got: NDArray[np.float64], rows: list[dict[str, Any]], key: str) -> float:
    return float(np.abs(got - np.array([r[key] for r in rows])).max())


def read_calibration(model: bytes) -> Calibration | None:
    text = export.properties(model).get("calibration")
    if text is None:
        return None
    c = json.loads(text)
    return Calibration(np.array(c["a"]), np.array(c["b"]))
