//! The shipped model against the library that fitted it, on the same rows.
use serde::Deserialize;

use super::super::{
    Action, Classifier, Model, Source, Undecided, only_forests, rules, top_reasons,
};
use crate::features::schema::{COUNT, Feature, FeatureVector};

static MODEL: &[u8] = include_bytes!("../../../../../model/healing_brain.onnx");
static GOLDEN: &str = include_str!("../../../../../model/golden.json");

#[derive(Deserialize)]
struct Golden {
    model_sha256: String,
    rows: Vec<Row>,
    scenarios: Vec<Scenario>,
}

#[derive(Deserialize)]
struct Row {
    features: [f32; COUNT],
    raw: [f64; 3],
    calibrated: [f64; 3],
    /// Pairs of values that training never saw together.
    unseen: u16,
}

#[derive(Deserialize)]
struct Scenario {
    name: String,
    row: [f32; COUNT],
    action: Action,
    min_confidence: f32,
}

fn golden() -> Golden {
    serde_json::from_str(GOLDEN).unwrap()
}

fn model() -> Model {
    Model::from_bytes(MODEL, only_forests).unwrap()
}

/// Scores and, after calibration, the label equal those of the library. XGBoost adds up in single
/// precision.
fn assert_same(model: &Model, scores: [f64; 3], row: &Row) {
    let off = |a: &[f64; 3], b: &[f64; 3]| a.iter().zip(b).all(|(a, b)| (a - b).abs() <= 2e-6);
    assert!(off(&scores, &row.raw), "{scores:?} {:?} {:?}", row.raw, row.features);
    let calibrated = model.calibrate(&scores).map(f64::from);
    assert_eq!(label(&calibrated), label(&row.calibrated), "{:?}", row.features);
}

fn label(p: &[f64; 3]) -> usize {
    (1..3).fold(0, |best, k| if p[k] > p[best] { k } else { best })
}

#[test]
fn the_flat_forest_equals_its_library() {
    let (golden, model) = (golden(), model());
    assert_eq!(model.engine(), "forest");
    assert!(golden.rows.len() >= 100);
    let rows: Vec<_> = golden.rows.iter().map(|r| r.features).collect();
    let mut batch = vec![[0.0; 3]; rows.len()];
    let forest = model.forest().unwrap();
    forest.predict_batch(&rows, &mut batch);
    for (row, batch) in golden.rows.iter().zip(batch) {
        let scores = model.scores(&row.features).unwrap();
        assert_same(&model, scores, row);
        assert_same(&model, forest.scores(batch), row);
        for (found, expected) in model.calibrate(&scores).iter().zip(row.calibrated) {
            assert!((f64::from(*found) - expected).abs() <= 2e-6, "{found} {expected}");
        }
    }
}

#[test]
fn what_training_never_saw_together_is_counted_as_there() {
    let (golden, model) = (golden(), model());
    let familiar = model.familiar().unwrap();
    for row in &golden.rows {
        let vector = FeatureVector::new(row.features);
        assert_eq!(familiar.unseen(&vector), row.unseen, "{:?}", row.features);
    }
    assert!(golden.rows.iter().any(|row| row.unseen > 0));
}

#[test]
fn scenarios_end_as_documented() {
    let classifier = Classifier::embedded();
    let scenarios = golden().scenarios;
    assert!(scenarios.len() >= 10);
    for Scenario { name, row, action, min_confidence } in scenarios {
        let row = FeatureVector::new(row);
        let decision = classifier.decide(&row).unwrap();
        assert_eq!(decision.action, action, "{name}");
        assert!(decision.confidence >= min_confidence, "{name}: {}", decision.confidence);
        assert_eq!(decision.source, Source::Model);
        let knows = action != Action::RestartService || decision.unfamiliar.is_none();
        assert!(knows, "{name}: {:?}", decision.unfamiliar);
        let sum: f32 = decision.probabilities.iter().sum();
        assert!((sum - 1.0).abs() < 1e-6, "{name}: {sum}");
        assert_eq!(rules::decide(&row).action, action, "the rules, {name}");
    }
}

#[test]
fn a_false_health_report_is_explained_by_kernel_columns() {
    let classifier = Classifier::embedded();
    let lies: Vec<_> =
        golden().scenarios.into_iter().filter(|s| s.name.contains("lying")).collect();
    assert!(!lies.is_empty());
    for Scenario { name, row, action, .. } in lies {
        let row = FeatureVector::new(row);
        let decision = classifier.decide(&row).unwrap();
        for shares in [classifier.shares(&row, decision.action), classifier.explain(&row, action)] {
            let first = top_reasons(&row, action, &shares, 1)[0];
            let kernel = first.feature.is_kernel() || first.feature == Feature::HealthFailures;
            assert!(kernel, "{name}: {first}");
        }
    }
}

#[test]
fn shares_sum_to_the_difference_from_the_training_mean() {
    let (golden, classifier, model) = (golden(), Classifier::embedded(), model());
    for row in golden.rows.iter().step_by(25).map(|r| &r.features) {
        let vector = FeatureVector::new(*row);
        let decision = classifier.decide(&vector).unwrap();
        let class = decision.action as usize;
        let forest = model.forest().unwrap();
        let difference = (forest.predict(row)[class] - forest.expected(class)) as f32;
        for shares in [
            classifier.shares(&vector, decision.action),
            classifier.explain(&vector, decision.action),
        ] {
            let sum: f32 = shares.iter().sum();
            assert!((sum - difference).abs() < 1e-5, "{sum} {difference}");
        }
    }
}

#[test]
fn the_embedded_model_describes_itself() {
    let classifier = Classifier::embedded();
    let description = classifier.describe();
    assert_eq!((description.engine, description.schema_version), ("forest", 2));
    assert!(description.trees.unwrap() >= 80 && description.reason.is_none());
    let changed = |row: &Row| row.raw.iter().zip(row.calibrated).any(|(r, c)| (r - c).abs() > 1e-3);
    assert_eq!(description.calibrated, golden().rows.iter().any(changed));
    assert!(description.knows_strangers);
    assert_eq!(classifier.sha256(), Some(golden().model_sha256.as_str()));
    let provenance = description.provenance.unwrap();
    serde_json::from_str::<serde_json::Value>(provenance).unwrap();
}

#[test]
fn a_row_with_nan_or_infinity_is_refused() {
    for classifier in [Classifier::embedded(), Classifier::Rules { reason: "none".to_owned() }] {
        for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut row = FeatureVector::default();
            row[Feature::HealthLatency] = value;
            let refused = classifier.decide(&row).unwrap_err();
            assert!(matches!(
                refused,
                Undecided::NotFinite { feature: Feature::HealthLatency, .. }
            ));
            assert!(refused.to_string().starts_with("health_latency is "));
            assert_eq!(classifier.explain(&row, Action::NoAction), [0.0; COUNT]);
        }
    }
}

#[test]
fn without_a_model_the_rules_decide_and_say_why() {
    let classifier = Classifier::from(Model::from_bytes(b"no model", only_forests));
    let Classifier::Rules { reason } = &classifier else { panic!("{classifier:?}") };
    assert!(reason.starts_with("not an ONNX model: "), "{reason}");
    assert_eq!(
        (classifier.describe().engine, classifier.describe().reason),
        ("rules", Some(&**reason))
    );
    let mut row = FeatureVector::default();
    row[Feature::ErrorCount] = 8.0;
    let decision = classifier.decide(&row).unwrap();
    assert_eq!((decision.action, decision.source), (Action::ResetErrors, Source::Rules));
    let shares = classifier.shares(&row, Action::ResetErrors);
    assert_eq!(classifier.explain(&row, Action::ResetErrors), shares);
    assert_eq!(classifier.explain(&row, Action::NoAction), [0.0; COUNT]);
    let reasons = classifier.reasons(&row, decision.action, 3).to_string();
    assert_eq!(reasons, "error_count=8 (+1.00)");
}
