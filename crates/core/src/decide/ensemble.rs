//! Finds the tree ensemble in an ONNX graph and returns its columns as they are in the file.
//!
//! Only names are interpreted here; [`compile`](super::compile) checks whether the numbers form
//! trees. A graph is accepted only if the ensemble is its only content, because the flat forest
//! would silently ignore anything else.
use super::{
    forest_error::ForestError,
    onnx::{AttributeProto, GraphProto, NodeProto},
};

/// The operator into which skl2onnx converts scikit-learn's forests, and onnxmltools the boosted
/// trees of XGBoost and LightGBM.
pub(super) const OPERATOR: &str = "TreeEnsembleClassifier";

/// Maximum number of graph nodes: an ensemble and a few conversions. More is another kind of model.
const MAX_GRAPH_NODES: usize = 8;

/// Attributes that the forest understands. Another one could change the meaning of the trees.
const KNOWN: [&str; 16] = [
    "base_values",
    "class_ids",
    "class_nodeids",
    "class_treeids",
    "class_weights",
    "classlabels_int64s",
    "nodes_falsenodeids",
    "nodes_featureids",
    "nodes_hitrates",
    "nodes_missing_value_tracks_true",
    "nodes_modes",
    "nodes_nodeids",
    "nodes_treeids",
    "nodes_truenodeids",
    "nodes_values",
    "post_transform",
];

/// The columns of a `TreeEnsembleClassifier`, unchecked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ensemble<'a> {
    pub(super) tree_ids: &'a [i64],
    pub(super) node_ids: &'a [i64],
    pub(super) feature_ids: &'a [i64],
    pub(super) thresholds: &'a [f32],
    pub(super) modes: &'a [Vec<u8>],
    pub(super) true_ids: &'a [i64],
    pub(super) false_ids: &'a [i64],
    pub(super) covers: &'a [f32],
    pub(super) leaf_tree_ids: &'a [i64],
    pub(super) leaf_node_ids: &'a [i64],
    pub(super) leaf_class_ids: &'a [i64],
    pub(super) leaf_weights: &'a [f32],
    pub(super) labels: &'a [i64],
    pub(super) base_values: &'a [f32],
    pub(super) post_transform: &'a [u8],
}

impl<'a> Ensemble<'a> {
    /// The graph's ensemble; `None` if the graph has none and is another kind of classifier.
    ///
    /// # Errors
    /// If there is an ensemble and something beside it changes its input or its output.
    pub(super) fn find(graph: &'a GraphProto) -> Result<Option<Self>, ForestError> {
        let Some(node) = graph.node.iter().find(|n| n.op_type == OPERATOR) else {
            return Ok(None);
        };
        check_surroundings(graph, node)?;
        Self::of(node).map(Some)
    }

    fn of(node: &'a NodeProto) -> Result<Self, ForestError> {
        for (i, attribute) in node.attribute.iter().enumerate() {
            let twice = node.attribute[..i].iter().any(|a| a.name == attribute.name);
            if twice || !KNOWN.contains(&attribute.name.as_str()) {
                return Err(ForestError::Attribute { name: shown(&attribute.name) });
            }
        }
        let find = |name: &str| node.attribute.iter().find(|a| a.name == name);
        let some = |name: &'static str| find(name).ok_or(ForestError::Missing { name });
        let ints = |name| Ok::<_, ForestError>(some(name)?.ints.as_slice());
        let floats = |a: &'a AttributeProto| a.floats.as_slice();
        Ok(Self {
            tree_ids: ints("nodes_treeids")?,
            node_ids: ints("nodes_nodeids")?,
            feature_ids: ints("nodes_featureids")?,
            thresholds: floats(some("nodes_values")?),
            modes: &some("nodes_modes")?.strings,
            true_ids: ints("nodes_truenodeids")?,
            false_ids: ints("nodes_falsenodeids")?,
            covers: find("nodes_hitrates").map_or(&[], floats),
            leaf_tree_ids: ints("class_treeids")?,
            leaf_node_ids: ints("class_nodeids")?,
            leaf_class_ids: ints("class_ids")?,
            leaf_weights: floats(some("class_weights")?),
            labels: ints("classlabels_int64s")?,
            base_values: find("base_values").map_or(&[], floats),
            post_transform: find("post_transform").map_or(b"NONE", |a| a.s.as_slice()),
        })
    }
}

/// Whether the ensemble's input is the graph's and its scores are an output of the graph, with only
/// renames, conversions between floats and products with 1 in between.
fn check_surroundings(graph: &GraphProto, ensemble: &NodeProto) -> Result<(), ForestError> {
    let stranger = graph.node.iter().find(|n| !std::ptr::eq(*n, ensemble) && !is_trivial(graph, n));
    if let Some(node) = stranger {
        return Err(ForestError::Operator { name: shown(&node.op_type) });
    }
    if graph.node.len() > MAX_GRAPH_NODES {
        return Err(ForestError::Operator { name: "too many Identity and Cast".to_owned() });
    }
    let (Some(input), Some(scores)) = (ensemble.input.first(), ensemble.output.get(1)) else {
        return Err(ForestError::Wiring);
    };
    let fed = graph.input.len() == 1 && graph.input[0].name == source(graph, input);
    let told = graph.output.iter().any(|o| source(graph, &o.name) == scores);
    if fed && told { Ok(()) } else { Err(ForestError::Wiring) }
}

fn is_trivial(graph: &GraphProto, node: &NodeProto) -> bool {
    match node.op_type.as_str() {
        "Identity" | "Cast" => true,
        "Mul" => unchanged(graph, node).is_some(),
        _ => false,
    }
}

/// Follows a value back through operators that do not change it.
fn source<'a>(graph: &'a GraphProto, mut name: &'a str) -> &'a str {
    for _ in 0..MAX_GRAPH_NODES {
        let mut makers = graph.node.iter().filter(|n| n.output.len() == 1 && n.output[0] == name);
        let Some(input) = makers.find_map(|n| unchanged(graph, n)) else { break };
        name = input;
    }
    name
}

/// The input that an operator returns unchanged. A cast to anything but a float (data types 1 and
/// 11) would truncate the values. LightGBM's converter multiplies the scores by the weight of a
/// tree, which is 1 for boosted trees.
fn unchanged<'a>(graph: &GraphProto, node: &'a NodeProto) -> Option<&'a str> {
    let to_float = || node.attribute.iter().any(|a| a.name == "to" && matches!(a.i, 1 | 11));
    match (node.op_type.as_str(), node.input.as_slice()) {
        ("Identity", [input]) => Some(input),
        ("Cast", [input]) if to_float() => Some(input),
        ("Mul", [input, weight]) if is_one(graph, weight) => Some(input),
        _ => None,
    }
}

/// Whether a name is a constant 1, and nothing else: an input of that name would replace it.
fn is_one(graph: &GraphProto, name: &str) -> bool {
    let mut constants = graph.initializer.iter().filter(|t| t.name == name);
    let one =
        matches!((constants.next(), constants.next()), (Some(t), None) if t.float_data == [1.0]);
    one && graph.input.iter().all(|i| i.name != name)
}

/// A name from the file, safe to print.
pub(super) fn shown(name: &str) -> String {
    name.chars().take(40).flat_map(char::escape_debug).collect()
}
