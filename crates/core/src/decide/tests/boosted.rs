//! Files of XGBoost and LightGBM as onnxmltools writes them, against what the libraries say.
use prost::Message as _;
use serde::Deserialize;

use super::super::{
    Action, Classifier, Forest, Model, ModelError, only_forests,
    onnx::{AttributeProto, ModelProto},
    testing::{from_model, metadata, on_a_threshold, set},
};
use crate::features::schema::{COUNT, FeatureVector};

pub(super) static XGBOOST: &[u8] = include_bytes!("boosted/xgboost.onnx");
pub(super) static LIGHTGBM: &[u8] = include_bytes!("boosted/lightgbm.onnx");
/// With the number of training rows of each node, as `cargo xtask train` writes it.
static EXPLAINED: &[u8] = include_bytes!("boosted/explained.onnx");
static GOLDEN: &str = include_str!("boosted/golden.json");

#[derive(Deserialize)]
struct Golden {
    xgboost: Vec<Row>,
    lightgbm: Vec<Row>,
    explained: Vec<Row>,
}

#[derive(Deserialize)]
struct Row {
    features: Vec<f32>,
    scores: [f64; 3],
    /// Per class: of each column, then the margin that is expected of any row.
    #[serde(default)]
    shares: Vec<Vec<f64>>,
}

impl Row {
    /// The files know the first columns.
    fn features(&self) -> [f32; COUNT] {
        std::array::from_fn(|i| self.features.get(i).copied().unwrap_or(0.0))
    }
}

fn golden() -> Golden {
    serde_json::from_str(GOLDEN).unwrap()
}

/// A file with the metadata that its user adds, without a calibration.
pub(super) fn with_metadata(file: &[u8]) -> ModelProto {
    let mut model = ModelProto::decode(file).unwrap();
    model.metadata_props = metadata();
    set(&mut model, "calibration", None);
    model
}

fn loaded(file: &[u8]) -> Model {
    from_model(&with_metadata(file)).unwrap()
}

/// The refusal of a file with one thing changed.
fn refusal(file: &[u8], spoil: impl FnOnce(&mut ModelProto)) -> String {
    let mut model = with_metadata(file);
    spoil(&mut model);
    from_model(&model).unwrap_err().to_string()
}

fn attribute<'a>(model: &'a mut ModelProto, name: &str) -> &'a mut AttributeProto {
    let nodes = &mut model.graph.as_mut().unwrap().node;
    let trees = nodes.iter_mut().find(|n| n.op_type == "TreeEnsembleClassifier").unwrap();
    trees.attribute.iter_mut().find(|a| a.name == name).unwrap()
}

fn close(found: &[f64; 3], expected: &[f64; 3], most: f64) -> bool {
    found.iter().zip(expected).all(|(f, e)| (f - e).abs() <= most)
}

fn assert_repeats(file: &[u8], golden: &[Row]) {
    let model = loaded(file);
    let forest = model.forest().unwrap();
    let rows: Vec<_> = golden.iter().map(Row::features).collect();
    let mut batch = vec![[f64::NAN; 3]; rows.len()];
    forest.predict_batch(&rows, &mut batch);
    for ((row, features), sums) in golden.iter().zip(&rows).zip(batch) {
        let scores = model.scores(features).unwrap();
        assert!(close(&scores, &row.scores, 1e-6), "{scores:?} {:?} {features:?}", row.scores);
        assert_eq!(forest.scores(sums), scores, "in a batch as alone");
        let p = model.calibrate(&scores).map(f64::from);
        assert!(close(&p, &row.scores, 1e-6), "{p:?} {:?}", row.scores);
    }
}

#[test]
fn files_of_both_libraries_give_the_probabilities_of_their_library() {
    let golden = golden();
    assert_repeats(XGBOOST, &golden.xgboost);
    assert_repeats(LIGHTGBM, &golden.lightgbm);
    assert_repeats(EXPLAINED, &golden.explained);
    for (file, rows) in [(XGBOOST, &golden.xgboost), (LIGHTGBM, &golden.lightgbm)] {
        let model = loaded(file);
        let forest = model.forest().unwrap();
        assert_eq!((model.engine(), forest.trees()), ("forest", 9));
        let rows: Vec<_> = rows.iter().map(Row::features).collect();
        let on = rows.iter().filter(|row| on_a_threshold(forest, row)).count();
        assert!(on >= 4, "{on} of {} rows on a threshold", rows.len());
        let margins = rows.iter().flat_map(|row| forest.predict(row));
        assert!(margins.filter(|m| *m < 0.0).count() > 20, "margins are no probabilities");
    }
}

#[test]
fn a_value_equal_to_a_threshold_of_xgboost_takes_the_false_branch() {
    let mut model = with_metadata(XGBOOST);
    let on = attribute(&mut model, "nodes_values").floats[0];
    let column = attribute(&mut model, "nodes_featureids").ints[0] as usize;
    let margins = |forest: &Forest, value: f32| {
        let mut row = [0.0; COUNT];
        row[column] = value;
        forest.predict(&row)[0]
    };
    let strict = from_model(&model).unwrap();
    attribute(&mut model, "nodes_modes").strings[0] = b"BRANCH_LEQ".to_vec();
    let inclusive = from_model(&model).unwrap();
    let (strict, inclusive) = (strict.forest().unwrap(), inclusive.forest().unwrap());
    let differ = |value| margins(strict, value).to_bits() != margins(inclusive, value).to_bits();
    assert!(differ(on) && !differ(on.next_down()) && !differ(on.next_up()));
}

#[test]
fn a_calibration_applies_to_the_probabilities() {
    let mut model = with_metadata(XGBOOST);
    set(&mut model, "calibration", Some(r#"{"a":[-6.0,-6.0,-6.0],"b":[3.0,3.0,3.0]}"#));
    let model = from_model(&model).unwrap();
    assert!(model.is_calibrated());
    // By hand: a sigmoid of 6p − 3, scaled to a sum of 1.
    let sigmoids = [0.7, 0.2, 0.1].map(|p: f64| 1.0 / (1.0 + (3.0 - 6.0 * p).exp()));
    let sum: f64 = sigmoids.iter().sum();
    let found = model.calibrate(&[0.7, 0.2, 0.1]).map(f64::from);
    assert!(close(&found, &sigmoids.map(|s| s / sum), 1e-6), "{found:?}");
}

#[test]
fn logistic_is_a_sigmoid_of_each_margin() {
    let mut model = with_metadata(XGBOOST);
    attribute(&mut model, "post_transform").s = b"LOGISTIC".to_vec();
    let logistic = from_model(&model).unwrap();
    for row in golden().xgboost.iter().map(Row::features) {
        let margins = logistic.forest().unwrap().predict(&row);
        let sigmoids = margins.map(|m| 1.0 / (1.0 + (-m).exp()));
        let scores = logistic.scores(&row).unwrap();
        assert!(close(&scores, &sigmoids, 1e-12), "{scores:?}");
        let p = logistic.calibrate(&scores);
        assert!((p.iter().sum::<f32>() - 1.0).abs() < 1e-6, "{p:?}");
    }
}

#[test]
fn bare_margins_are_refused_without_a_calibration() {
    let none = |m: &mut ModelProto| attribute(m, "post_transform").s = b"NONE".to_vec();
    for file in [XGBOOST, LIGHTGBM] {
        let text = refusal(file, none);
        assert!(text.contains("the scores are no probabilities"), "{text}");
        assert!(text.contains("multi:softprob"), "{text}");
    }
    let mut model = with_metadata(XGBOOST);
    none(&mut model);
    set(&mut model, "calibration", Some(r#"{"a":[-1.0,-1.0,-1.0],"b":[0.0,0.0,0.0]}"#));
    let model = from_model(&model).unwrap();
    let row = golden().xgboost[0].features();
    assert_eq!(model.scores(&row).unwrap(), model.forest().unwrap().predict(&row));
}

#[test]
fn a_file_without_metadata_is_refused_and_says_what_to_add() {
    let error = Model::from_bytes(XGBOOST, only_forests).unwrap_err();
    assert!(matches!(error, ModelError::Metadata(_)));
    assert!(error.to_string().contains("no `feature_names`: write it with"), "{error}");
}

#[test]
fn a_classifier_of_two_classes_is_refused() {
    let text = refusal(XGBOOST, |m| {
        attribute(m, "classlabels_int64s").ints = vec![0, 1];
        attribute(m, "class_ids").ints.fill(0);
        attribute(m, "base_values").floats.truncate(1);
        attribute(m, "post_transform").s = b"LOGISTIC".to_vec();
    });
    assert!(text.contains("must be [0, 1, 2]") && text.contains("all three classes"), "{text}");
}

#[test]
fn hostile_variants_are_refused_by_name() {
    type Spoil = fn(&mut ModelProto);
    let cases: [(Spoil, &str); 12] = [
        (|m| attribute(m, "base_values").floats.truncate(1), "base_values has 1 values"),
        (|m| attribute(m, "base_values").floats.push(0.0), "base_values has 4 values"),
        (|m| attribute(m, "base_values").floats[1] = f32::NAN, "base_values[1] is NaN"),
        (|m| attribute(m, "class_weights").floats[3] = f32::NAN, "class_weights[3] is NaN"),
        (|m| attribute(m, "class_ids").ints[0] = 3, "class_ids[0] is 3"),
        (|m| attribute(m, "class_ids").ints[0] = -1, "class_ids[0] is -1"),
        (|m| attribute(m, "class_nodeids").ints[0] = 0, "class_nodeids[0] is 0"),
        (|m| attribute(m, "class_treeids").ints[0] = 9, "class_treeids[0] is 9"),
        (|m| attribute(m, "nodes_truenodeids").ints[0] = 0, "node 0 is reached twice"),
        (|m| attribute(m, "nodes_values").floats[0] = f32::INFINITY, "nodes_values[0] is inf"),
        (|m| attribute(m, "nodes_featureids").ints[0] = 99, "nodes_featureids[0] is 99"),
        (|m| attribute(m, "post_transform").s = b"PROBIT".to_vec(), "post_transform PROBIT is not"),
    ];
    for (spoil, expected) in cases {
        let text = refusal(XGBOOST, spoil);
        assert!(text.contains(expected), "{text}\n{expected}");
    }
    let text = refusal(LIGHTGBM, |m| attribute(m, "nodes_modes").strings[0] = b"BRANCH_EQ".into());
    assert!(text.contains("node mode BRANCH_EQ is not supported"), "{text}");
}

/// LightGBM's converter multiplies the scores by a constant, which is 1 unless trees are averaged.
#[test]
fn a_product_with_anything_but_one_is_refused() {
    let one = |m: &mut ModelProto, values: &[f32]| {
        m.graph.as_mut().unwrap().initializer[0].float_data = values.to_vec();
    };
    for values in [&[0.5][..], &[f32::NAN], &[1.0, 1.0], &[]] {
        let text = refusal(LIGHTGBM, |m| one(m, values));
        assert!(text.contains("operator Mul stands beside"), "{text}");
    }
    let text = refusal(LIGHTGBM, |m| m.graph.as_mut().unwrap().initializer.clear());
    assert!(text.contains("operator Mul stands beside"), "{text}");
    // An input of that name would take the constant's place.
    let text = refusal(LIGHTGBM, |m| {
        let graph = m.graph.as_mut().unwrap();
        let mut input = graph.input[0].clone();
        input.name.clone_from(&graph.initializer[0].name);
        graph.input.push(input);
    });
    assert!(text.contains("operator Mul stands beside"), "{text}");
}

#[test]
fn shares_are_of_the_margin() {
    for file in [XGBOOST, LIGHTGBM, EXPLAINED] {
        let model = loaded(file);
        let forest = model.forest().unwrap().clone();
        let classifier = Classifier::Model(Box::new(model));
        for row in golden().explained.iter().map(Row::features) {
            let vector = FeatureVector::new(row);
            let decision = classifier.decide(&vector).unwrap();
            let class = decision.action as usize;
            let difference = (forest.predict(&row)[class] - forest.expected(class)) as f32;
            for shares in [
                classifier.shares(&vector, decision.action),
                classifier.explain(&vector, decision.action),
            ] {
                let sum: f32 = shares.iter().sum();
                assert!((sum - difference).abs() < 1e-5, "{sum} {difference}");
            }
        }
    }
}

#[test]
fn shapley_values_equal_those_of_xgboost() {
    let model = loaded(EXPLAINED);
    let forest = model.forest().unwrap().clone();
    let classifier = Classifier::Model(Box::new(model));
    for row in golden().explained {
        let vector = FeatureVector::new(row.features());
        for action in Action::ALL {
            let (expected, bias) = row.shares[action as usize].split_at(row.features.len());
            let found = classifier.explain(&vector, action);
            for (f, e) in found.iter().zip(expected) {
                assert!((f64::from(*f) - e).abs() < 1e-5, "{found:?} {expected:?}");
            }
            let mean = forest.expected(action as usize);
            assert!((mean - bias[0]).abs() < 1e-5, "{mean} {bias:?}");
        }
    }
}
