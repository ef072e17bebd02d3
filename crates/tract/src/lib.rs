//! Runs ONNX classifiers that are not tree ensembles, through tract.
//!
//! tract accepts all of ONNX, and some of that must not come from an untrusted file: its tree
//! operators follow the file's ids without checking them, so they run only after the flat forest
//! has accepted the same trees; loops may never end; generators of large tensors and the content of
//! other files are not part of a classifier. So only a list of operators is accepted that
//! classifiers consist of. tract's parser may still panic on invalid input, which is caught.
//!
//! It is a separate crate because tract is the largest dependency by far: a build without it still
//! runs every forest.
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::{Duration, Instant},
};

use paramedic_core::{
    decide::{ModelError, ScoreEngine, check_trees},
    features::schema::COUNT,
};
use tract_onnx::{
    pb::{GraphProto, ModelProto, NodeProto, TensorProto},
    prelude::*,
};

/// Maximum time for all pods of a full node in one round of samples.
const BUDGET: Duration = Duration::from_millis(100);
const BUDGET_ROWS: usize = 110;

/// Graphs are walked recursively, and a stack overflow cannot be caught.
const MAX_OPERATORS: usize = 500;

/// The accepted operators, which classifiers consist of.
const OPERATORS: &str = " Abs Add And ArgMax ArgMin ArrayFeatureExtractor BatchNormalization Cast \
    Ceil Celu Clip Concat Constant Div Dropout Elu Equal Erf Exp Flatten Floor Gather Gelu Gemm \
    Greater GreaterOrEqual HardSigmoid HardSwish Identity LayerNormalization LeakyRelu Less \
    LessOrEqual LinearClassifier Log LogSoftmax MatMul Max Mean Min Mul Neg Normalizer Not Or Pow \
    PRelu Reciprocal ReduceL1 ReduceL2 ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum \
    ReduceSumSquare Relu Reshape Round Selu Shape Sigmoid Sign Slice Softmax Softplus Softsign \
    Split Sqrt Squeeze Sub Sum Tanh Transpose Unsqueeze Where Xor ";

/// Trees run after [`check_trees`] has accepted them.
const TREES: &str = "TreeEnsembleClassifier";

/// A classifier that tract runs, one row at a time.
#[derive(Clone, Debug)]
pub struct Tract {
    plan: Arc<TypedRunnableModel>,
    scores: usize,
}

/// Loads a classifier that is fast enough for a full node.
///
/// # Errors
/// If it uses operators that are not accepted, cannot be run, or is too slow.
pub fn load(bytes: &[u8]) -> Result<Arc<dyn ScoreEngine>, ModelError> {
    let tract = Tract::from_bytes(bytes)?;
    tract.check_speed()?;
    Ok(Arc::new(tract))
}

impl Tract {
    /// Loads any model that the agent accepts, including the shipped forest, without a check of its
    /// speed: for comparison.
    ///
    /// # Errors
    /// As [`load`], except for the speed.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ModelError> {
        check_trees(bytes)?;
        let model = read(bytes)?;
        check(model.graph.as_ref().ok_or(ModelError::NoGraph)?)?;
        guarded(|| plan(&model)).and_then(|plan| {
            let scores = scores_output(&plan).ok_or(ModelError::NoScores)?;
            let tract = Self { plan, scores };
            tract.predict(&[0.0; COUNT])?;
            Ok(tract)
        })
    }

    /// Raw class scores of one row.
    ///
    /// # Errors
    /// If tract fails, or a score is not a number.
    pub fn predict(&self, row: &[f32; COUNT]) -> Result<[f64; 3], ModelError> {
        let scores = guarded(|| {
            let input = tract_ndarray::Array2::from_shape_fn((1, COUNT), |(_, i)| row[i]);
            let outputs = self.plan.run(tvec!(Tensor::from(input).into()))?;
            let scores = outputs[self.scores].try_as_plain_ram()?;
            Ok(<[f32; 3]>::try_from(scores.as_slice::<f32>()?)?)
        })?;
        if scores.iter().all(|s| s.is_finite()) {
            Ok(scores.map(f64::from))
        } else {
            Err(ModelError::Engine { reason: format!("scores {scores:?} are not all numbers") })
        }
    }

    /// Refuses a model that is too slow for a full node. The best of three rounds counts, so that a
    /// busy moment of the machine does not count against the model.
    fn check_speed(&self) -> Result<(), ModelError> {
        let mut best = Duration::MAX;
        for _ in 0..3 {
            best = best.min(self.time_rows()?);
            if best <= BUDGET {
                return Ok(());
            }
        }
        let limit = BUDGET.as_millis();
        Err(ModelError::TooSlow { rows: BUDGET_ROWS, millis: best.as_millis(), limit })
    }

    /// Time for as many rows as a full node has, extrapolated once it is clearly too long.
    fn time_rows(&self) -> Result<Duration, ModelError> {
        let start = Instant::now();
        for done in 1..=BUDGET_ROWS {
            self.predict(&[done as f32; COUNT])?;
            if start.elapsed() > 2 * BUDGET {
                return Ok(start.elapsed() * BUDGET_ROWS as u32 / done as u32);
            }
        }
        Ok(start.elapsed())
    }
}

impl ScoreEngine for Tract {
    fn scores(&self, row: &[f32; COUNT]) -> Result<[f64; 3], ModelError> {
        self.predict(row)
    }

    fn name(&self) -> &'static str {
        "tract"
    }
}

/// Parses the ONNX container with tract's own types.
fn read(bytes: &[u8]) -> Result<ModelProto, ModelError> {
    let mut bytes = bytes;
    guarded(|| onnx().proto_model_for_read(&mut bytes)).map_err(|error| match error {
        ModelError::Engine { reason } => ModelError::NotOnnx { reason },
        other => other,
    })
}

/// Runs tract's code, and converts its errors and panics: its parser indexes and unwraps while it
/// reads an untrusted file.
fn guarded<T>(work: impl FnOnce() -> TractResult<T>) -> Result<T, ModelError> {
    let reason = match catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(value)) => return Ok(value),
        Ok(Err(error)) => format!("{error:#}"),
        Err(panic) => format!("tract panicked: {}", panic_text(panic.as_ref())),
    };
    Err(ModelError::Engine { reason: reason.chars().take(500).collect() })
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    let owned = panic.downcast_ref::<String>().map(String::as_str);
    owned.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message")
}

fn plan(model: &ModelProto) -> TractResult<Arc<TypedRunnableModel>> {
    onnx()
        .model_for_proto_model(model)?
        .with_input_fact(0, f32::fact([1, COUNT]).into())?
        .into_optimized()?
        .into_runnable()
}

/// The first output of shape [1, 3] with floats.
fn scores_output(plan: &TypedRunnableModel) -> Option<usize> {
    (0..plan.model().outputs.len()).find(|&i| {
        let fact = plan.model().output_fact(i);
        let is_scores = |f: &TypedFact| {
            f.datum_type == f32::datum_type() && f.shape.as_concrete() == Some(&[1, 3])
        };
        fact.is_ok_and(is_scores)
    })
}

fn check(graph: &GraphProto) -> Result<(), ModelError> {
    let (found, limit) = (graph.node.len(), MAX_OPERATORS);
    if found > limit {
        return Err(ModelError::TooManyOperators { found, limit });
    }
    if graph.initializer.iter().any(is_external) {
        return Err(ModelError::External);
    }
    graph.node.iter().try_for_each(check_node)
}

fn check_node(node: &NodeProto) -> Result<(), ModelError> {
    let name = node.op_type.as_str();
    let listed = OPERATORS.split(' ').any(|o| !o.is_empty() && o == name) || name == TREES;
    let nested = |n: &NodeProto| n.attribute.iter().any(|a| a.g.is_some() || !a.graphs.is_empty());
    if !listed || nested(node) {
        return Err(ModelError::Operator {
            name: name.chars().take(40).flat_map(char::escape_debug).collect(),
        });
    }
    let tensors = node.attribute.iter().flat_map(|a| a.t.iter().chain(&a.tensors));
    if tensors.into_iter().any(is_external) { Err(ModelError::External) } else { Ok(()) }
}

/// Whether a tensor's values are in another file.
fn is_external(tensor: &TensorProto) -> bool {
    !tensor.external_data.is_empty() || tensor.data_location.is_some_and(|l| l != 0)
}
