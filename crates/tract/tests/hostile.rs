//! Classifiers that are not forests, and files that tract must not run.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
use paramedic_core::{
    decide::{
        Action, Classifier, Model, ModelError, Source,
        onnx::{GraphProto, ModelProto},
        testing::{Columns, Random, Tree, floats, model, node, set, with_int},
    },
    features::schema::{COUNT, Feature, FeatureVector},
};
use paramedic_tract::{Tract, load};
use prost::Message as _;

fn from_model(model: &ModelProto) -> Result<Model, ModelError> {
    Model::from_bytes(&model.encode_to_vec(), load)
}

fn graph(model: &mut ModelProto) -> &mut GraphProto {
    model.graph.as_mut().unwrap()
}

/// A classifier that is not a forest: softmax over weighted columns.
fn linear() -> ModelProto {
    let mut weights = vec![0.0; COUNT * 3];
    weights[Feature::ErrorCount as usize * 3 + 1] = 1.0;
    let nodes = vec![
        node("MatMul", &["features", "weights"], &["product"]),
        node("Add", &["product", "bias"], &["sum"]),
        with_int(node("Softmax", &["sum"], &["scores"]), "axis", 1),
    ];
    let tensors =
        [floats("weights", &[COUNT as i64, 3], &weights), floats("bias", &[3], &[3.0, 0.0, -9.0])];
    let mut model = model(nodes, tensors.into());
    set(&mut model, "calibration", None);
    model
}

#[test]
fn another_classifier_runs_through_tract() {
    let model = Model::from_bytes(&linear().encode_to_vec(), load).unwrap();
    assert_eq!((model.engine(), model.is_calibrated()), ("tract", false));
    assert!(model.forest().is_none());
    let classifier = Classifier::from(Ok::<_, ModelError>(model));
    let mut row = FeatureVector::default();
    assert_eq!(classifier.decide(&row).unwrap().action, Action::NoAction);
    row[Feature::ErrorCount] = 8.0;
    let decision = classifier.decide(&row).unwrap();
    assert_eq!((decision.action, decision.source), (Action::ResetErrors, Source::Model));
    // softmax of 3, 8, -9
    assert!((decision.confidence - 0.993_307).abs() < 1e-5, "{}", decision.confidence);
    let shares = classifier.explain(&row, Action::ResetErrors);
    assert!(shares[Feature::ErrorCount as usize] > 0.9);
    assert_eq!(shares.iter().filter(|s| **s != 0.0).count(), 1);
    assert_eq!(classifier.describe().engine, "tract");
}

fn tract_refusal(spoil: impl FnOnce(&mut ModelProto)) -> String {
    let mut model = linear();
    spoil(&mut model);
    from_model(&model).unwrap_err().to_string()
}

#[test]
fn graphs_that_tract_must_not_run_are_refused() {
    for op in ["Loop", "Scan", "If", "ConstantOfShape", "Range", "RandomNormal", "TreeEnsemble"] {
        let text = tract_refusal(|m| graph(m).node.push(node(op, &["sum"], &["other"])));
        assert!(text.contains(&format!("operator {op} is not accepted")), "{text}");
    }
    let text = tract_refusal(|m| graph(m).initializer[0].data_location = Some(1));
    assert!(text.contains("other files"), "{text}");
}

#[test]
fn long_graphs_are_refused_before_they_are_walked() {
    let chain = |length: usize| {
        let mut model = linear();
        let names: Vec<_> = (0..=length).map(|i| format!("x{i}")).collect();
        let link = |w: &[String]| node("Relu", &[&w[0]], &[&w[1]]);
        graph(&mut model).node[2].output[0] = "x0".to_owned();
        graph(&mut model).node.extend(names.windows(2).map(link));
        graph(&mut model).output[0].name = format!("x{length}");
        Tract::from_bytes(&model.encode_to_vec())
    };
    chain(497).unwrap();
    let refused = chain(100_000).unwrap_err();
    assert!(matches!(refused, ModelError::TooManyOperators { found: 100_003, limit: 500 }));
}

#[test]
fn models_that_tract_cannot_run_are_refused() {
    let text = tract_refusal(|m| graph(m).initializer[0].dims = vec![7, 6]);
    assert!(text.contains("tract cannot run the model"), "{text}");
    let text = tract_refusal(|m| graph(m).initializer[0].dims = vec![-1, i64::MAX]);
    assert!(text.contains("tract cannot run the model"), "{text}");
    // tract's parser panics on an output that no node produces.
    let text = tract_refusal(|m| graph(m).output[0].name = "absent".to_owned());
    assert!(text.contains("tract cannot run the model"), "{text}");
    let text = tract_refusal(|m| graph(m).input.clear());
    assert!(text.contains("tract cannot run the model"), "{text}");
    let text = tract_refusal(|m| {
        graph(m).initializer[0] = floats("weights", &[COUNT as i64, 2], &[0.0; 2 * COUNT]);
        graph(m).initializer[1] = floats("bias", &[2], &[0.0; 2]);
        graph(m).output[0].r#type = None;
    });
    assert!(text.contains("no output is a float tensor"), "{text}");
    let text = tract_refusal(|m| graph(m).initializer[1].float_data[0] = f32::NAN);
    assert!(text.contains("not all numbers"), "{text}");
}

#[test]
fn a_too_slow_classifier_is_refused() {
    // 110 rows are 4 billion multiplications here, and 15 GB to read.
    let (wide, layers) = (768, 60);
    let mut nodes = vec![node("MatMul", &["features", "first"], &["x0"])];
    for i in 0..layers {
        let (from, to) = (format!("x{i}"), format!("x{}", i + 1));
        nodes.push(node("MatMul", &[&from, "layer"], &[&to]));
    }
    nodes.push(node("MatMul", &[&format!("x{layers}"), "last"], &["scores"]));
    let tensors = vec![
        floats("first", &[COUNT as i64, 768], &vec![0.0; COUNT * wide]),
        floats("layer", &[768, 768], &vec![0.0; wide * wide]),
        floats("last", &[768, 3], &vec![0.0; wide * 3]),
    ];
    let error = from_model(&model(nodes, tensors)).unwrap_err();
    assert!(matches!(error, ModelError::TooSlow { rows: 110, limit: 100, .. }), "{error}");
}

/// A corrupted file ends in an error or in another model, which then answers with numbers.
#[test]
fn flipped_bytes_never_panic() {
    let mut random = Random(6);
    let (mut accepted, mut refused) = (0, 0);
    let whole = linear().encode_to_vec();
    for _ in 0..1500 {
        let mut bytes = whole.clone();
        for _ in 0..=random.below(3) {
            let at = random.below(bytes.len());
            bytes[at] = random.draw() as u8;
        }
        if random.below(10) == 0 {
            bytes.truncate(random.below(bytes.len()));
        }
        match Classifier::from(Model::from_bytes(&bytes, load)) {
            Classifier::Rules { .. } => refused += 1,
            classifier => {
                accepted += 1;
                let row = FeatureVector::new(random.row());
                if let Ok(decision) = classifier.decide(&row) {
                    assert!(decision.probabilities.iter().all(|p| (0.0..=1.0).contains(p)));
                }
            }
        }
    }
    assert!(accepted > 10 && refused > 10, "{accepted} {refused}");
}

/// tract's tree operators follow the file's ids without a check.
#[test]
fn trees_run_only_after_the_forest_accepted_them() {
    let leaf = || Tree::leaf([1.0, 0.0, 0.0], 2.0);
    let mut columns = Columns::of(&[Tree::split(0, 0.5, leaf(), leaf())]);
    let tract = Tract::from_bytes(&columns.model().encode_to_vec()).unwrap();
    assert_eq!(tract.predict(&[0.0; COUNT]).unwrap(), [1.0, 0.0, 0.0]);
    columns.true_ids[0] = 1 << 20;
    let refused = Tract::from_bytes(&columns.model().encode_to_vec());
    assert!(matches!(refused, Err(ModelError::Forest(_))));
}
