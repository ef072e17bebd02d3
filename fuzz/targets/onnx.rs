//! A model file: its metadata, its trees, and what they say of rows.
#![no_main]
use libfuzzer_sys::{Corpus, fuzz_target};
use paramedic_core::{
    decide::{Action, Classifier, Forest, Model, ModelError, check_trees, only_forests},
    features::schema::{COUNT, FeatureVector},
};

/// More is slow to explain; the shipped model has some ten thousand.
const SMALL: usize = 200;

fuzz_target!(|input: &[u8]| -> Corpus {
    let model = match Model::from_bytes(input, only_forests) {
        Ok(model) => model,
        Err(error) => {
            assert!(error.to_string().len() < 1000, "{error}");
            let trees = check_trees(input);
            if let ModelError::Forest(_) = error {
                assert!(trees.is_err(), "{error}");
            }
            return Corpus::Keep;
        }
    };
    assert!(check_trees(input).is_ok());
    let forest = model.forest().unwrap().clone();
    assert!(forest.trees() > 0 && forest.nodes() >= forest.trees());
    let rows = rows();
    let mut scores = [[0.0; 3]; ROWS];
    forest.predict_batch(&rows, &mut scores);
    let classifier = Classifier::from(Ok::<_, ModelError>(model));
    for (row, scores) in rows.into_iter().zip(scores) {
        check(&classifier, &forest, row, scores);
    }
    Corpus::Keep
});

/// More than walk in lockstep, and a rest.
const ROWS: usize = 23;

fn rows() -> [[f32; COUNT]; ROWS] {
    let values = [0.0, 1.0, 0.5, 100.0, -1.0, 1e9, f32::MAX, f32::MIN, f32::MIN_POSITIVE];
    std::array::from_fn(|row| {
        std::array::from_fn(|column| values[(row * 5 + column) % values.len()])
    })
}

fn check(classifier: &Classifier, forest: &Forest, row: [f32; COUNT], scores: [f64; 3]) {
    assert!(scores.iter().all(|score| score.is_finite()), "{scores:?}");
    assert_eq!(forest.predict(&row), scores, "in a batch as alone");
    let row = FeatureVector::new(row);
    let decision = classifier.decide(&row).unwrap();
    let most = decision.probabilities.into_iter().fold(0.0, f32::max);
    assert_eq!(decision.confidence, most, "{decision:?}");
    assert_eq!(decision.confidence, decision.probabilities[decision.action as usize]);
    assert!((decision.probabilities.iter().sum::<f32>() - 1.0).abs() < 1e-3, "{decision:?}");
    let shares = classifier.shares(&row, decision.action);
    assert!(shares.iter().all(|share| share.is_finite()), "{shares:?}");
    if forest.nodes() <= SMALL {
        for action in Action::ALL {
            let shares = classifier.explain(&row, action);
            assert!(shares.iter().all(|share| share.is_finite()), "{shares:?}");
        }
    }
}
