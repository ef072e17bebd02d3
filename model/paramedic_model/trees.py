"""What every kind of model is to the checks, the report and the export."""

from collections.abc import Iterator
from typing import Protocol

import numpy as np
import onnx
from numpy.typing import NDArray

Rows = NDArray[np.float32]
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

INPUT = "features"


class Trees(Protocol):
    """Fitted trees: a random forest, or boosted ones."""

    @classmethod
    def fit(cls, rows: Rows, labels: Ints, seed: int) -> "Trees":
        """The same for the same rows and seed."""

    @property
    def library(self) -> str:
        """Which library fitted them."""

    def describe(self) -> str:
        """How many and how deep at most."""

    def count(self) -> int:
        """How many trees there are."""

    def node_count(self) -> int: ...

    def raw(self, rows: Rows) -> Floats:
        """What the library says of each class: the scores of the ONNX file."""

    def shares(self, rows: Rows) -> Floats:
        """Each column's share in the sum of each class's leaves, by path attribution: (row, column,
        class)."""

    def importances(self) -> Floats:
        """How much each column matters, in all 1."""

    def ways(self, tree: int, rows: Rows) -> Iterator[tuple[Ints, Floats]]:
        """For each row, the columns of the splits on its way through a tree, and the largest values
        that take the lower branch there."""

    def to_onnx(self) -> onnx.ModelProto:
        """With the number of training rows of each node, which TreeSHAP needs."""


def ensemble(model: onnx.ModelProto) -> dict[str, onnx.AttributeProto]:
    """The attributes of a file's only tree ensemble."""
    return {a.name: a for a in ensemble_node(model).attribute}


def ensemble_node(model: onnx.ModelProto) -> onnx.NodeProto:
    (node,) = (n for n in model.graph.node if n.op_type == "TreeEnsembleClassifier")
    return node
