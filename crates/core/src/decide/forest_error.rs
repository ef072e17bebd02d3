//! Errors of a tree ensemble, and the limits of a valid one.
use thiserror::Error;

/// Maximum depth. Deeper trees memorise, and the depth bounds the cost of a walk.
pub(super) const MAX_DEPTH: u32 = 64;
/// Maximum number of nodes: about 24 MB of forest.
pub(super) const MAX_NODES: usize = 1 << 20;
/// Maximum number of comparisons for one row, over all trees: about 0.2 ms of work.
pub(super) const MAX_STEPS: usize = 100_000;

/// What is wrong with a tree ensemble.
#[derive(Debug, Error, PartialEq)]
pub enum ForestError {
    /// The graph contains something besides the ensemble.
    #[error(
        "operator {name} stands beside the tree ensemble: export the bare classifier (skl2onnx and onnxmltools: zipmap=False)"
    )]
    Operator {
        /// The operator.
        name: String,
    },
    /// The ensemble is not between the graph's only input and one of its outputs.
    #[error("the tree ensemble must read the graph's only input and its scores must be an output")]
    Wiring,
    /// An attribute that is unknown or duplicated.
    #[error(
        "attribute {name} is unknown or there twice; ai.onnx.ml version 3 with float values is understood"
    )]
    Attribute {
        /// The attribute.
        name: String,
    },
    /// A required attribute is missing.
    #[error("attribute {name} is missing")]
    Missing {
        /// The attribute.
        name: &'static str,
    },
    /// A column is shorter or longer than the others.
    #[error("attribute {name} has {found} values where there should be {expected}")]
    Length {
        /// The attribute.
        name: &'static str,
        /// Its length.
        found: usize,
        /// The length of the columns that it belongs to.
        expected: usize,
    },
    /// The labels are not the class numbers.
    #[error(
        "classlabels_int64s must be [0, 1, 2]: train on the numbers of all three classes, names go into the metadata"
    )]
    Labels,
    /// Scores come from the sums of the leaves in another way.
    #[error("post_transform {name} is not supported, only NONE, SOFTMAX and LOGISTIC")]
    PostTransform {
        /// The transform.
        name: String,
    },
    /// A node mode that the forest does not support.
    #[error("node mode {name} is not supported, only BRANCH_LEQ, BRANCH_LT and LEAF")]
    Mode {
        /// The mode.
        name: String,
    },
    /// A forest that is empty or too large.
    #[error("{found} nodes; a forest has 1 to {MAX_NODES}")]
    Size {
        /// Number of nodes.
        found: usize,
    },
    /// A number that refers to nothing.
    #[error("{name}[{index}] is {found}, which is out of range or there twice")]
    Id {
        /// The attribute.
        name: &'static str,
        /// Position in it.
        index: usize,
        /// Its value.
        found: i64,
    },
    /// A value that is not a number or absurdly large, or a training weight that is not positive.
    #[error("{name}[{index}] is {found}, which is not a usable number")]
    Value {
        /// The attribute.
        name: &'static str,
        /// Position in it.
        index: usize,
        /// Its value.
        found: f32,
    },
    /// Tree ids are not consecutive.
    #[error("tree {tree} has no nodes: tree ids must count up from 0")]
    Empty {
        /// The tree.
        tree: usize,
    },
    /// A node with two parents: a cycle, or a shared branch.
    #[error("tree {tree}: node {node} is reached twice")]
    Shared {
        /// The tree.
        tree: usize,
        /// The node's id in it.
        node: usize,
    },
    /// Nodes that cannot be reached.
    #[error("tree {tree}: {count} nodes cannot be reached from its root, node 0")]
    Orphans {
        /// The tree.
        tree: usize,
        /// Their number.
        count: usize,
    },
    /// A tree is too deep.
    #[error("tree {tree} is deeper than {MAX_DEPTH}")]
    Depth {
        /// The tree.
        tree: usize,
    },
    /// One row would take too many comparisons.
    #[error(
        "one row takes {found} comparisons, more than {MAX_STEPS}: train fewer or shallower trees"
    )]
    Steps {
        /// Comparisons for one row.
        found: usize,
    },
}
