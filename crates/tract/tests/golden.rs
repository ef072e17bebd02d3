//! The shipped model through tract, against scikit-learn on the same rows.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
use paramedic_core::{
    decide::{Model, testing::on_a_threshold},
    features::schema::COUNT,
};
use paramedic_tract::{Tract, load};

static MODEL: &[u8] = include_bytes!("../../../model/healing_brain.onnx");
static GOLDEN: &str = include_str!("../../../model/golden.json");

/// tract takes tens of milliseconds for a row, so it gets one row in thirteen: ordinary ones and
/// ones on thresholds, for which the flat forest of the same file gives the same result.
#[test]
fn tract_equals_scikit_learn() {
    let golden: serde_json::Value = serde_json::from_str(GOLDEN).unwrap();
    let (model, tract) =
        (Model::from_bytes(MODEL, load).unwrap(), Tract::from_bytes(MODEL).unwrap());
    let (mut rows, mut on_thresholds) = (0, 0);
    for row in golden["rows"].as_array().unwrap().iter().step_by(13) {
        let numbers = |key: &str| -> Vec<f64> {
            row[key].as_array().unwrap().iter().map(|n| n.as_f64().unwrap()).collect()
        };
        let features: Vec<f32> = numbers("features").iter().map(|n| *n as f32).collect();
        let features: [f32; COUNT] = features.try_into().unwrap();
        let scores = tract.predict(&features).unwrap();
        for (found, expected) in scores.iter().zip(numbers("raw")) {
            assert!((found - expected).abs() <= 1e-6, "{found} {expected} {features:?}");
        }
        rows += 1;
        on_thresholds += usize::from(on_a_threshold(model.forest().unwrap(), &features));
    }
    assert!(rows >= 8 && on_thresholds >= 5, "{rows} rows, {on_thresholds} on thresholds");
}
