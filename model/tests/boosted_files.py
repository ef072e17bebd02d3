"""Small boosted trees of both libraries, for the agent's tests: `python -m tests.boosted_files`.

Each file is as the library's converter writes it, but for the metadata, which the agent's tests
add. The rows know six columns, whatever the schema has: the tests fill up the rest.
"""

import json
import sys
from pathlib import Path
from typing import Any, Final

import lightgbm
import numpy as np
import onnx
import onnxmltools
import xgboost
from numpy.typing import NDArray
from onnxmltools.convert.common.data_types import FloatTensorType

from paramedic_model import export
from paramedic_model.boosted import Boosted
from paramedic_model.trees import INPUT, Floats, Ints, Rows, ensemble

FOLDER: Final = Path(__file__).resolve().parents[2] / "crates/core/src/decide/tests/boosted"
COLUMNS: Final = 6
ROUNDS: Final = 3
DEPTH: Final = 3
SEED: Final = 4
ROWS: Final = 20
# Explained exactly.
EXPLAINED: Final = 4
# What two sums of a few single-precision leaves may differ by.
CLOSE: Final = 1e-6


def learnt() -> tuple[Rows, Ints]:
    """Three classes by a few conditions, of which some rows know better."""
    rng = np.random.default_rng(SEED)
    rows = rng.normal(size=(600, COLUMNS)).astype(np.float32)
    labels = np.where(
        rows[:, 0] + rows[:, 1] > 0.7, 2, np.where(rows[:, 2] * rows[:, 3] > 0.4, 1, 0)
    )
    astray = rng.random(len(rows)) < 0.05
    labels[astray] = rng.integers(3, size=int(astray.sum()))
    return rows, labels


def by_xgboost(rows: Rows, labels: Ints) -> tuple[xgboost.XGBClassifier, onnx.ModelProto]:
    model = xgboost.XGBClassifier(
        n_estimators=ROUNDS, max_depth=DEPTH, n_jobs=1, random_state=SEED
    ).fit(rows, labels)
    return model, onnxmltools.convert_xgboost(model, "xgboost", inputs())


def by_lightgbm(rows: Rows, labels: Ints) -> tuple[lightgbm.LGBMClassifier, onnx.ModelProto]:
    model = lightgbm.LGBMClassifier(
        n_estimators=ROUNDS, max_depth=DEPTH, n_jobs=1, random_state=SEED, verbose=-1
    ).fit(rows, labels)
    return model, onnxmltools.convert_lightgbm(model, "lightgbm", inputs(), zipmap=False)


def inputs() -> list[tuple[str, FloatTensorType]]:
    return [(INPUT, FloatTensorType([None, COLUMNS]))]


def on_thresholds(model: onnx.ModelProto, rows: Rows) -> Rows:
    """Each row moved onto the largest value that takes the true branch of a split, or one step
    past it."""
    found = ensemble(model)
    names = ("nodes_featureids", "nodes_values", "nodes_modes")
    columns, thresholds, modes = (onnx.helper.get_attribute_value(found[n]) for n in names)
    splits = np.flatnonzero([mode != b"LEAF" for mode in modes])
    rng = np.random.default_rng(SEED)
    moved = rows.copy()
    for row in moved:
        split = rng.choice(splits)
        on = np.float32(thresholds[split])
        if modes[split] == b"BRANCH_LT":
            on = np.nextafter(on, np.float32(-np.inf))
        past = np.nextafter(on, np.float32(np.inf))
        row[columns[split]] = past if rng.random() < 0.5 else on
    return moved


def golden(rows: Rows, scores: NDArray[np.floating[Any]]) -> list[dict[str, list[float]]]:
    return [
        {"features": f, "scores": s}
        for f, s in zip(rows.tolist(), scores.astype(np.float64).tolist(), strict=True)
    ]


def require_close(name: str, found: Floats, expected: Floats) -> None:
    off = float(np.abs(found - expected).max())
    if off > CLOSE:
        raise ValueError(f"{name}: the file and the library differ by {off:.1e}")


def explained(rows: Rows, labels: Ints, ask: Rows) -> tuple[onnx.ModelProto, Floats, Floats]:
    """What the training exports, and each column's Shapley value in each margin; last, the margin
    of a row of which nothing is known."""
    model = xgboost.XGBClassifier(
        n_estimators=ROUNDS, max_depth=DEPTH, n_jobs=1, random_state=SEED
    ).fit(rows, labels)
    shares = model.get_booster().predict(xgboost.DMatrix(ask), pred_contribs=True)
    return Boosted(model).to_onnx(), model.predict_proba(ask), shares


def write(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    rows, labels = learnt()
    ask = np.random.default_rng(SEED + 1).normal(size=(ROWS, COLUMNS)).astype(np.float32)
    told: dict[str, Any] = {}
    for name, by in (("xgboost", by_xgboost), ("lightgbm", by_lightgbm)):
        fitted, model = by(rows, labels)
        file = model.SerializeToString(deterministic=True)
        both = np.concatenate([ask, on_thresholds(model, ask)])
        scores = export.run(file, both)[1].astype(np.float64)
        # On its thresholds LightGBM disagrees with its file, where they are rounded.
        exact = len(both) if name == "xgboost" else len(ask)
        said = np.asarray(fitted.predict_proba(both[:exact]), dtype=np.float64)
        require_close(name, scores[:exact], said)
        told[name] = golden(both, scores)
        (folder / f"{name}.onnx").write_bytes(file)
    few = ask[:EXPLAINED]
    model, scores, shares = explained(rows, labels, few)
    told["explained"] = [
        row | {"shares": of} for row, of in zip(golden(few, scores), shares.tolist(), strict=True)
    ]
    (folder / "explained.onnx").write_bytes(model.SerializeToString(deterministic=True))
    lines = [
        f'"{name}": [\n' + ",\n".join(json.dumps(row) for row in rows) + "\n]"
        for name, rows in told.items()
    ]
    (folder / "golden.json").write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


if __name__ == "__main__":
    write(FOLDER)
    sys.exit(0)
