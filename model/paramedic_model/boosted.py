"""Boosted trees, by XGBoost.

LightGBM would do as well, but its thresholds are double precision, and onnxmltools rounds them to
the nearest single: a row on a threshold can take the other branch. XGBoost's are single precision,
and its file says exactly what the library says.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
import onnx
import onnxmltools
from onnxmltools.convert.common.data_types import FloatTensorType
from xgboost import XGBClassifier

from paramedic_model.schema import CLASSES
from paramedic_model.trees import INPUT, Floats, Ints, Rows, ensemble, ensemble_node

# Trees of each class: all of them together walk in twice the time of the forest.
ROUNDS: Final = 80
DEPTH: Final = 6
RATE: Final = 0.15
# Least sum of second derivatives in a leaf; a row of which the trees are sure has almost none.
LEAST: Final = 5.0

Nodes = dict[str, Any]


@dataclass(frozen=True)
class Tree:
    """A tree in preorder. A leaf is its own child."""

    column: Ints
    threshold: Rows
    low: Ints
    high: Ints
    value: Floats
    """The margin of a leaf; of a branch, the mean of its leaves by cover."""
    cover: Floats

    @classmethod
    def of(cls, root: Nodes) -> "Tree":
        """Of XGBoost's dump."""
        nodes: list[Nodes] = []
        low: list[int] = []
        high: list[int] = []

        def add(node: Nodes) -> int:
            own = len(nodes)
            nodes.append(node)
            low.append(own)
            high.append(own)
            if "leaf" not in node:
                children = {child["nodeid"]: child for child in node["children"]}
                low[own] = add(children[node["yes"]])
                high[own] = add(children[node["no"]])
            return own

        add(root)
        value = np.array([n.get("leaf", 0.0) for n in nodes])
        cover = np.array([n["cover"] for n in nodes])
        for at in reversed(range(len(nodes))):
            if low[at] != at:
                children = [low[at], high[at]]
                value[at] = np.average(value[children], weights=cover[children])
        return cls(
            np.array([int(n.get("split", "f0")[1:]) for n in nodes]),
            np.array([n.get("split_condition", 0.0) for n in nodes], dtype=np.float32),
            np.array(low),
            np.array(high),
            value,
            cover,
        )

    def steps(self, rows: Rows) -> Iterator[tuple[Ints, Ints]]:
        """For all rows at once, from the roots to the leaves: where each is, and where it goes."""
        at = np.zeros(len(rows), dtype=np.int64)
        while True:
            below = rows[np.arange(len(rows)), self.column[at]] < self.threshold[at]
            then = np.where(below, self.low[at], self.high[at])
            if (then == at).all():
                return
            yield at, then
            at = then


@dataclass(frozen=True)
class Boosted:
    """Fitted boosted trees. Their raw scores are the softmax of the sums of their leaves."""

    model: XGBClassifier

    @classmethod
    def fit(cls, rows: Rows, labels: Ints, seed: int) -> "Boosted":
        model = XGBClassifier(
            n_estimators=ROUNDS,
            max_depth=DEPTH,
            learning_rate=RATE,
            min_child_weight=LEAST,
            objective="multi:softprob",
            tree_method="hist",
            # Threads add up the rows in any order, which changes the last bits of a split's gain.
            n_jobs=1,
            random_state=seed,
        )
        return cls(model.fit(rows, labels))

    @cached_property
    def trees(self) -> list[Tree]:
        """Trees of the classes by turns."""
        dump = self.model.get_booster().get_dump(with_stats=True, dump_format="json")
        return [Tree.of(json.loads(tree)) for tree in dump]

    @property
    def library(self) -> str:
        return "XGBoost"

    def describe(self) -> str:
        return f"{self.count()} boosted trees, depth at most {DEPTH}"

    def count(self) -> int:
        return len(self.trees)

    def node_count(self) -> int:
        return sum(len(tree.value) for tree in self.trees)

    def raw(self, rows: Rows) -> Floats:
        p: Rows = self.model.predict_proba(rows)
        return p.astype(np.float64)

    def shares(self, rows: Rows) -> Floats:
        shares = np.zeros((*rows.shape, len(CLASSES)))
        every = np.arange(len(rows))
        for number, tree in enumerate(self.trees):
            mine = shares[:, :, number % len(CLASSES)]
            for at, then in tree.steps(rows):
                mine[every, tree.column[at]] += tree.value[then] - tree.value[at]
        return shares

    def importances(self) -> Floats:
        return np.asarray(self.model.feature_importances_, dtype=np.float64)

    def ways(self, tree: int, rows: Rows) -> Iterator[tuple[Ints, Floats]]:
        nodes = self.trees[tree]
        # Lower means below the threshold here, not on it.
        largest = np.nextafter(nodes.threshold, np.float32(-np.inf)).astype(np.float64)
        steps = list(nodes.steps(rows))
        for i in range(len(rows)):
            splits = np.array([at[i] for at, then in steps if at[i] != then[i]], dtype=np.int64)
            yield nodes.column[splits], largest[splits]

    def to_onnx(self) -> onnx.ModelProto:
        columns = self.model.n_features_in_
        model: onnx.ModelProto = onnxmltools.convert_xgboost(
            self.model,
            # Without a name it draws one.
            name="boosted trees",
            initial_types=[(INPUT, FloatTensorType([None, columns]))],
            target_opset=15,
        )
        self.add_hitrates(model)
        return model

    def add_hitrates(self, model: onnx.ModelProto) -> None:
        """The cover of each node, by which XGBoost itself explains; onnxmltools leaves it out."""
        attributes = ensemble(model)
        order = list(
            zip(
                attributes["nodes_treeids"].ints,
                attributes["nodes_nodeids"].ints,
                attributes["nodes_values"].floats,
                strict=True,
            )
        )
        expected = [
            (t, i, float(threshold))
            for t, tree in enumerate(self.trees)
            for i, threshold in enumerate(tree.threshold)
        ]
        if order != expected:
            raise ValueError("onnxmltools changed its node order: match hit rates by node id")
        covers = np.concatenate([tree.cover for tree in self.trees]).tolist()
        hitrates = onnx.helper.make_attribute("nodes_hitrates", covers)
        ensemble_node(model).attribute.append(hitrates)
