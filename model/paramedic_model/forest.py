"""The random forest, by scikit-learn."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import onnx
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType
from sklearn.ensemble import RandomForestClassifier

from paramedic_model.schema import CLASSES
from paramedic_model.trees import INPUT, Floats, Ints, Rows, ensemble

TREES: Final = 80
DEPTH: Final = 10
OPSETS: Final = {"": 18, "ai.onnx.ml": 3}


@dataclass(frozen=True)
class Forest:
    """A fitted random forest. Its raw scores are the mean probabilities of its trees."""

    model: RandomForestClassifier

    @classmethod
    def fit(cls, rows: Rows, labels: Ints, seed: int) -> "Forest":
        model = RandomForestClassifier(
            n_estimators=TREES,
            max_depth=DEPTH,
            min_samples_leaf=10,
            # The policy is a list of conditions: a split needs most of the columns to choose from.
            max_features=0.7,
            # No class weights: they make a forest over-confident, and confidence is a gate.
            class_weight=None,
            n_jobs=-1,
            random_state=seed,
        ).fit(rows, labels)
        # Threads add up the trees in any order, which changes the last bits of a prediction.
        return cls(model.set_params(n_jobs=1))

    @property
    def library(self) -> str:
        return "scikit-learn"

    def describe(self) -> str:
        return f"a random forest of {TREES} trees, depth at most {DEPTH}"

    def count(self) -> int:
        return len(self.model.estimators_)

    def node_count(self) -> int:
        return sum(e.tree_.node_count for e in self.model.estimators_)

    def raw(self, rows: Rows) -> Floats:
        p: Floats = self.model.predict_proba(rows)
        return p

    def shares(self, rows: Rows) -> Floats:
        shares = np.zeros((*rows.shape, len(CLASSES)))
        for estimator in self.model.estimators_:
            tree = estimator.tree_
            paths = tree.decision_path(rows)
            for i in range(len(rows)):
                path = paths.indices[paths.indptr[i] : paths.indptr[i + 1]]
                change = np.diff(tree.value[path, 0], axis=0)
                np.add.at(shares[i], tree.feature[path[:-1]], change)
        return shares / self.count()

    def importances(self) -> Floats:
        found: Floats = self.model.feature_importances_
        return found

    def ways(self, tree: int, rows: Rows) -> Iterator[tuple[Ints, Floats]]:
        nodes = self.model.estimators_[tree].tree_
        paths = nodes.decision_path(rows)
        for i in range(len(rows)):
            path = paths.indices[paths.indptr[i] : paths.indptr[i + 1]]
            splits = path[nodes.feature[path] >= 0]
            yield nodes.feature[splits], nodes.threshold[splits]

    def to_onnx(self) -> onnx.ModelProto:
        columns = self.model.n_features_in_
        model: onnx.ModelProto = to_onnx(
            self.model,
            initial_types=[(INPUT, FloatTensorType([None, columns]))],
            options={"zipmap": False},
            target_opset=OPSETS,
        )
        self.fill_hitrates(ensemble(model))
        return model

    def fill_hitrates(self, attributes: dict[str, onnx.AttributeProto]) -> None:
        """How many training rows passed each node; skl2onnx writes 1 everywhere."""
        trees = [e.tree_ for e in self.model.estimators_]
        order = list(
            zip(attributes["nodes_treeids"].ints, attributes["nodes_nodeids"].ints, strict=True)
        )
        if order != [(t, i) for t, tree in enumerate(trees) for i in range(tree.node_count)]:
            raise ValueError("skl2onnx changed its node order: match hit rates by node id")
        hitrates = np.concatenate([t.weighted_n_node_samples for t in trees])
        attributes["nodes_hitrates"].floats[:] = hitrates.tolist()
