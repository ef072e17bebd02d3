//! Builds ONNX models in memory, valid and invalid ones.
#![expect(missing_docs, reason = "for tests: names and types say it")]
#![expect(clippy::expect_used, reason = "a test fails by panicking")]
use prost::Message as _;

use super::{
    Model, ModelError,
    ensemble::Ensemble,
    forest::Forest,
    forest_error::ForestError,
    only_forests,
    onnx::{
        AttributeProto, DimensionProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto,
        StringStringEntryProto, TensorProto, TensorShapeProto, TensorTypeProto, TypeProto,
        ValueInfoProto,
    },
};
use crate::features::schema::{COUNT, FEATURES};

/// A repeatable source of numbers (splitmix64).
pub struct Random(pub u64);

impl Random {
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, limit: usize) -> usize {
        (self.draw() % limit as u64) as usize
    }

    /// A multiple of 1/16 in 0–1, so that thresholds are hit exactly now and then.
    pub fn unit(&mut self) -> f32 {
        self.below(17) as f32 / 16.0
    }

    pub fn row(&mut self) -> [f32; COUNT] {
        std::array::from_fn(|_| self.unit())
    }
}

/// A readable tree.
#[derive(Clone, Debug)]
pub enum Tree {
    Leaf { scores: [f32; 3], cover: f32 },
    Split { column: usize, threshold: f32, low: Box<Tree>, high: Box<Tree> },
}

impl Tree {
    pub fn leaf(scores: [f32; 3], cover: f32) -> Self {
        Self::Leaf { scores, cover }
    }

    pub fn split(column: usize, threshold: f32, low: Self, high: Self) -> Self {
        Self::Split { column, threshold, low: Box::new(low), high: Box::new(high) }
    }

    pub fn random(random: &mut Random, depth: usize, columns: usize) -> Self {
        if depth == 0 || random.below(8) == 0 {
            let scores = std::array::from_fn(|_| random.unit());
            return Self::leaf(scores, 1.0 + random.below(20) as f32);
        }
        let (column, threshold) = (random.below(columns), random.unit());
        let low = Self::random(random, depth - 1, columns);
        Self::split(column, threshold, low, Self::random(random, depth - 1, columns))
    }

    /// Evaluates it by a plain walk.
    pub fn scores(&self, row: &[f32; COUNT]) -> [f32; 3] {
        match self {
            Self::Leaf { scores, .. } => *scores,
            Self::Split { column, threshold, low, high } => {
                if row[*column] <= *threshold {
                    low.scores(row)
                } else {
                    high.scores(row)
                }
            }
        }
    }

    pub fn cover(&self) -> f64 {
        match self {
            Self::Leaf { cover, .. } => f64::from(*cover),
            Self::Split { low, high, .. } => low.cover() + high.cover(),
        }
    }

    /// The mean score of `class` when only the columns in the bit set `known` are known.
    pub fn mean(&self, row: &[f32; COUNT], known: usize, class: usize) -> f64 {
        match self {
            Self::Leaf { scores, .. } => f64::from(scores[class]),
            Self::Split { column, threshold, low, high } if known >> column & 1 == 1 => {
                let child = if row[*column] <= *threshold { low } else { high };
                child.mean(row, known, class)
            }
            Self::Split { low, high, .. } => {
                let sum = low.cover() * low.mean(row, known, class)
                    + high.cover() * high.mean(row, known, class);
                sum / self.cover()
            }
        }
    }

    /// Appends the tree's columns; returns its root's node id.
    fn write(&self, tree: i64, columns: &mut Columns, next: &mut i64) -> i64 {
        let own = *next;
        *next += 1;
        let at = columns.node_ids.len();
        columns.tree_ids.push(tree);
        columns.node_ids.push(own);
        columns.covers.push(self.cover() as f32);
        match self {
            Self::Leaf { scores, .. } => {
                columns.push_node(0, 0.0, b"LEAF");
                for (class, score) in scores.iter().enumerate() {
                    columns.leaf_tree_ids.push(tree);
                    columns.leaf_node_ids.push(own);
                    columns.leaf_class_ids.push(class as i64);
                    columns.leaf_weights.push(*score);
                }
            }
            Self::Split { column, threshold, low, high } => {
                columns.push_node(*column as i64, *threshold, b"BRANCH_LEQ");
                columns.true_ids[at] = low.write(tree, columns, next);
                columns.false_ids[at] = high.write(tree, columns, next);
            }
        }
        own
    }
}

/// The columns of an ensemble, for tests to corrupt.
#[derive(Clone, Debug, Default)]
pub struct Columns {
    pub tree_ids: Vec<i64>,
    pub node_ids: Vec<i64>,
    pub feature_ids: Vec<i64>,
    pub thresholds: Vec<f32>,
    pub modes: Vec<Vec<u8>>,
    pub true_ids: Vec<i64>,
    pub false_ids: Vec<i64>,
    pub covers: Vec<f32>,
    pub leaf_tree_ids: Vec<i64>,
    pub leaf_node_ids: Vec<i64>,
    pub leaf_class_ids: Vec<i64>,
    pub leaf_weights: Vec<f32>,
    pub base_values: Vec<f32>,
}

impl Columns {
    pub fn of(trees: &[Tree]) -> Self {
        let mut columns = Self::default();
        for (i, tree) in trees.iter().enumerate() {
            tree.write(i as i64, &mut columns, &mut 0);
        }
        columns
    }

    fn push_node(&mut self, column: i64, threshold: f32, mode: &[u8]) {
        self.feature_ids.push(column);
        self.thresholds.push(threshold);
        self.modes.push(mode.to_vec());
        self.true_ids.push(0);
        self.false_ids.push(0);
    }

    pub fn compile(&self) -> Result<Forest, ForestError> {
        let mut graph = GraphProto { node: vec![self.node()], ..GraphProto::default() };
        graph.input = vec![value("features", 1, &[COUNT])];
        graph.output = vec![value("label", 7, &[]), value("scores", 1, &[3])];
        Forest::compile(&Ensemble::find(&graph)?.expect("an ensemble"))
    }

    pub fn node(&self) -> NodeProto {
        let ints =
            |name: &str, v: &[i64]| AttributeProto { ints: v.to_vec(), ..attribute(name, 7) };
        let floats =
            |name: &str, v: &[f32]| AttributeProto { floats: v.to_vec(), ..attribute(name, 6) };
        let mut node = node("TreeEnsembleClassifier", &["features"], &["label", "scores"]);
        node.domain = "ai.onnx.ml".to_owned();
        node.attribute = vec![
            ints("nodes_treeids", &self.tree_ids),
            ints("nodes_nodeids", &self.node_ids),
            ints("nodes_featureids", &self.feature_ids),
            floats("nodes_values", &self.thresholds),
            AttributeProto { strings: self.modes.clone(), ..attribute("nodes_modes", 8) },
            ints("nodes_truenodeids", &self.true_ids),
            ints("nodes_falsenodeids", &self.false_ids),
            floats("nodes_hitrates", &self.covers),
            ints("class_treeids", &self.leaf_tree_ids),
            ints("class_nodeids", &self.leaf_node_ids),
            ints("class_ids", &self.leaf_class_ids),
            floats("class_weights", &self.leaf_weights),
            ints("classlabels_int64s", &[0, 1, 2]),
            AttributeProto { s: b"NONE".to_vec(), ..attribute("post_transform", 3) },
        ];
        if !self.base_values.is_empty() {
            node.attribute.push(floats("base_values", &self.base_values));
        }
        node
    }

    pub fn model(&self) -> ModelProto {
        model(vec![self.node()], Vec::new())
    }
}

fn attribute(name: &str, r#type: i32) -> AttributeProto {
    AttributeProto { name: name.to_owned(), r#type, ..AttributeProto::default() }
}

pub fn node(op: &str, inputs: &[&str], outputs: &[&str]) -> NodeProto {
    NodeProto {
        op_type: op.to_owned(),
        name: format!("{op} {}", outputs[0]),
        input: inputs.iter().map(|&s| s.to_owned()).collect(),
        output: outputs.iter().map(|&s| s.to_owned()).collect(),
        ..NodeProto::default()
    }
}

/// An int attribute on a node.
pub fn with_int(mut node: NodeProto, name: &str, i: i64) -> NodeProto {
    node.attribute.push(AttributeProto { i, ..attribute(name, 2) });
    node
}

pub fn floats(name: &str, dims: &[i64], values: &[f32]) -> TensorProto {
    TensorProto {
        name: name.to_owned(),
        dims: dims.to_vec(),
        data_type: 1,
        float_data: values.to_vec(),
        ..TensorProto::default()
    }
}

/// A tensor of a named batch dimension and the given others.
fn value(name: &str, elem_type: i32, dims: &[usize]) -> ValueInfoProto {
    let batch = DimensionProto { dim_param: Some("N".to_owned()), dim_value: None };
    let dims = dims.iter().map(|&d| DimensionProto { dim_value: Some(d as i64), dim_param: None });
    let dim = std::iter::once(batch).chain(dims).collect();
    let tensor = TensorTypeProto { elem_type, shape: Some(TensorShapeProto { dim }) };
    let r#type = TypeProto { tensor_type: Some(tensor) };
    ValueInfoProto { name: name.to_owned(), r#type: Some(r#type) }
}

/// A model with this agent's metadata, from `features` to `scores` (and `label`, if a node produces
/// it).
pub fn model(nodes: Vec<NodeProto>, initializer: Vec<TensorProto>) -> ModelProto {
    let mut output = vec![value("scores", 1, &[3])];
    if nodes.iter().any(|n| n.output.iter().any(|o| o == "label")) {
        output.insert(0, value("label", 7, &[]));
    }
    let graph = GraphProto {
        node: nodes,
        initializer,
        input: vec![value("features", 1, &[COUNT])],
        output,
    };
    let opset = |domain: &str, version| OperatorSetIdProto { domain: domain.to_owned(), version };
    ModelProto {
        ir_version: 8,
        opset_import: vec![opset("", 18), opset("ai.onnx.ml", 3)],
        graph: Some(graph),
        metadata_props: metadata(),
    }
}

/// The result of loading a model from a file.
///
/// # Errors
/// As [`Model::from_bytes`].
pub fn from_model(model: &ModelProto) -> Result<Model, ModelError> {
    Model::from_bytes(&model.encode_to_vec(), only_forests)
}

/// Whether a column of the row equals a threshold that the forest compares it with.
pub fn on_a_threshold(forest: &Forest, row: &[f32; COUNT]) -> bool {
    let mut branches = forest.nodes.iter().filter(|node| !node.is_leaf());
    branches.any(|node| row[node.column()].to_bits() == node.threshold.to_bits())
}

/// The metadata that this agent requires.
pub fn metadata() -> Vec<StringStringEntryProto> {
    let names = serde_json::to_string(&FEATURES).expect("names");
    let classes = serde_json::to_string(&super::CLASSES).expect("classes");
    let calibration = r#"{"a":[-5.0,-6.0,-5.5],"b":[2.0,2.5,2.2]}"#.to_owned();
    [
        ("feature_names", names),
        ("class_labels", classes),
        ("feature_schema_version", "2".to_owned()),
        ("calibration", calibration),
    ]
    .map(|(key, value)| StringStringEntryProto { key: key.to_owned(), value })
    .into()
}

/// Sets or removes a metadata entry.
pub fn set(model: &mut ModelProto, key: &str, value: Option<&str>) {
    model.metadata_props.retain(|p| p.key != key);
    if let Some(value) = value {
        let (key, value) = (key.to_owned(), value.to_owned());
        model.metadata_props.push(StringStringEntryProto { key, value });
    }
}
