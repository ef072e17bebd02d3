//! Invalid model files, by accident or on purpose: each gives an error, none a panic.
use prost::Message;

use super::super::{
    Action, Classifier, ForestError, MAX_BYTES, Model, ModelError, check_trees, only_forests,
    onnx::{AttributeProto, GraphProto, ModelProto},
    testing::{Columns, Random, Tree, from_model, model, node, set, with_int},
};
use super::boosted::{LIGHTGBM, XGBOOST, with_metadata};
use crate::features::schema::{COUNT, FeatureVector};

fn columns() -> Columns {
    let leaf = |class: usize| {
        let mut scores = [0.0; 3];
        scores[class] = 1.0;
        Tree::leaf(scores, 2.0)
    };
    let low = Tree::split(0, 79.5, leaf(0), leaf(1));
    Columns::of(&[Tree::split(2, 10.5, low, leaf(2)), leaf(0)])
}

/// The forest's error on corrupted columns.
fn refusal(spoil: impl FnOnce(&mut Columns)) -> ForestError {
    let mut columns = columns();
    spoil(&mut columns);
    let from_file = Model::from_bytes(&columns.model().encode_to_vec(), only_forests).unwrap_err();
    let error = columns.compile().unwrap_err();
    assert_eq!(from_file.to_string(), format!("tree ensemble: {error}"));
    let checked = check_trees(&columns.model().encode_to_vec());
    assert!(matches!(checked, Err(ModelError::Forest(_))), "tract follows ids without a check");
    error
}

fn is_id(error: &ForestError, column: &str) -> bool {
    matches!(error, ForestError::Id { name, .. } if *name == column)
}

fn is_value(error: &ForestError, column: &str) -> bool {
    matches!(error, ForestError::Value { name, .. } if *name == column)
}

#[test]
fn the_unmodified_model_is_accepted() {
    let model = Model::from_bytes(&columns().model().encode_to_vec(), only_forests).unwrap();
    assert_eq!(model.engine(), "forest");
    assert_eq!(model.scores(&[0.0; COUNT]).unwrap(), [2.0, 0.0, 0.0]);
}

#[test]
fn ids_out_of_range_are_refused() {
    for far in [-1, 5, 1 << 20, i64::MAX, i64::MIN] {
        assert!(is_id(&refusal(|c| c.node_ids[1] = far), "nodes_nodeids"));
        assert!(is_id(&refusal(|c| c.true_ids[0] = far), "nodes_truenodeids"));
        assert!(is_id(&refusal(|c| c.false_ids[0] = far), "nodes_falsenodeids"));
        assert!(is_id(&refusal(|c| c.leaf_node_ids[0] = far), "class_nodeids"));
    }
    for far in [-1, 6, i64::MAX] {
        assert!(is_id(&refusal(|c| c.tree_ids[1] = far), "nodes_treeids"));
        assert!(is_id(&refusal(|c| c.leaf_tree_ids[0] = far), "class_treeids"));
    }
    assert!(is_id(&refusal(|c| c.feature_ids[0] = COUNT as i64), "nodes_featureids"));
    assert!(is_id(&refusal(|c| c.feature_ids[0] = -1), "nodes_featureids"));
    assert!(is_id(&refusal(|c| c.leaf_class_ids[0] = 3), "class_ids"));
}

#[test]
fn duplicate_ids_are_refused() {
    assert!(is_id(&refusal(|c| c.node_ids[1] = 0), "nodes_nodeids"));
    // A leaf with two scores for one class; scores on a branch.
    assert!(is_id(&refusal(|c| c.leaf_class_ids[1] = 0), "class_nodeids"));
    assert!(is_id(&refusal(|c| c.leaf_node_ids[0] = 0), "class_nodeids"));
}

#[test]
fn cycles_shared_nodes_and_orphans_are_refused() {
    assert_eq!(refusal(|c| c.true_ids[1] = 0), ForestError::Shared { tree: 0, node: 0 });
    assert_eq!(refusal(|c| c.true_ids[0] = 0), ForestError::Shared { tree: 0, node: 0 });
    assert_eq!(refusal(|c| c.true_ids[1] = 3), ForestError::Shared { tree: 0, node: 3 });
    let lone = |c: &mut Columns| c.modes[0] = b"LEAF".to_vec();
    assert_eq!(refusal(lone), ForestError::Orphans { tree: 0, count: 4 });
    let gap = |c: &mut Columns| {
        *c.tree_ids.last_mut().unwrap() = 2;
        c.leaf_tree_ids.iter_mut().for_each(|t| *t *= 2);
    };
    assert_eq!(refusal(gap), ForestError::Empty { tree: 1 });
}

#[test]
fn values_that_are_not_numbers_are_refused() {
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        assert!(is_value(&refusal(|c| c.thresholds[0] = bad), "nodes_values"));
        assert!(is_value(&refusal(|c| c.leaf_weights[0] = bad), "class_weights"));
        assert!(is_value(&refusal(|c| c.covers[2] = bad), "nodes_hitrates"));
        assert!(is_value(&refusal(|c| c.base_values = vec![0.0, bad, 0.0]), "base_values"));
    }
    for absurd in [f32::MAX, f32::MIN, 1.1e30] {
        assert!(is_value(&refusal(|c| c.leaf_weights[0] = absurd), "class_weights"));
        assert!(is_value(&refusal(|c| c.base_values = vec![absurd, 0.0, 0.0]), "base_values"));
    }
    for absurd in [1e29, 1e-30, f32::MIN_POSITIVE] {
        assert!(is_value(&refusal(|c| c.covers[2] = absurd), "nodes_hitrates"));
    }
    assert!(is_value(&refusal(|c| c.covers[2] = 0.0), "nodes_hitrates"));
    assert!(is_value(&refusal(|c| c.covers[2] = -1.0), "nodes_hitrates"));
}

#[test]
fn columns_of_different_lengths_are_refused() {
    let short = |error: ForestError| matches!(error, ForestError::Length { .. });
    assert!(short(refusal(|c| c.thresholds.truncate(3))));
    assert!(short(refusal(|c| c.modes.truncate(3))));
    assert!(short(refusal(|c| c.true_ids.truncate(3))));
    assert!(short(refusal(|c| c.tree_ids.push(0))));
    assert!(short(refusal(|c| c.covers.truncate(3))));
    assert!(short(refusal(|c| c.leaf_class_ids.push(0))));
    assert!(short(refusal(|c| c.base_values = vec![1.0])));
    assert_eq!(refusal(|c| c.node_ids.clear()), ForestError::Size { found: 0 });
}

#[test]
fn unsupported_node_modes_are_refused_by_name() {
    for mode in ["BRANCH_GT", "BRANCH_GTE", "BRANCH_EQ", "BRANCH_MEMBER", "", "leaf"] {
        let error = refusal(|c| c.modes[0] = mode.into());
        assert_eq!(error, ForestError::Mode { name: mode.to_owned() });
    }
    let error = refusal(|c| c.modes[0] = vec![0xff; 9000]);
    assert!(error.to_string().len() < 300, "{error}");
}

#[test]
fn too_deep_trees_are_refused() {
    let chain = |depth: usize| {
        let leaf = || Tree::leaf([1.0, 0.0, 0.0], 1.0);
        (0..depth).fold(leaf(), |tree, _| Tree::split(0, 0.5, leaf(), tree))
    };
    assert!(Columns::of(&[chain(64)]).compile().is_ok());
    assert_eq!(Columns::of(&[chain(65)]).compile().unwrap_err(), ForestError::Depth { tree: 0 });
    assert_eq!(Columns::of(&[chain(3000)]).compile().unwrap_err(), ForestError::Depth { tree: 0 });
    let many: Vec<_> = (0..1700).map(|_| chain(60)).collect();
    let error = Columns::of(&many).compile().unwrap_err();
    assert_eq!(error, ForestError::Steps { found: 85 * 20 * 60 });
}

#[test]
fn a_too_large_forest_is_refused() {
    let found = (1 << 20) + 1;
    assert_eq!(refusal(|c| c.node_ids = vec![0; found]), ForestError::Size { found });
}

fn spoiled_node(spoil: impl FnOnce(&mut ModelProto)) -> String {
    let mut model = columns().model();
    spoil(&mut model);
    Model::from_bytes(&model.encode_to_vec(), only_forests).unwrap_err().to_string()
}

fn graph(model: &mut ModelProto) -> &mut GraphProto {
    model.graph.as_mut().unwrap()
}

fn attribute<'a>(model: &'a mut ModelProto, name: &str) -> &'a mut AttributeProto {
    graph(model).node[0].attribute.iter_mut().find(|a| a.name == name).unwrap()
}

#[test]
fn attributes_that_change_the_meaning_are_refused() {
    let text = spoiled_node(|m| attribute(m, "post_transform").s = b"PROBIT".to_vec());
    assert!(text.contains("post_transform PROBIT is not supported"), "{text}");
    let text = spoiled_node(|m| attribute(m, "classlabels_int64s").ints = vec![2, 1, 0]);
    assert!(text.contains("must be [0, 1, 2]"), "{text}");
    let text = spoiled_node(|m| attribute(m, "nodes_hitrates").name = "nodes_magic".to_owned());
    assert!(text.contains("nodes_magic is unknown"), "{text}");
    let text = spoiled_node(|m| attribute(m, "nodes_hitrates").name = "nodes_values".to_owned());
    assert!(text.contains("nodes_values is unknown or there twice"), "{text}");
    let text = spoiled_node(|m| graph(m).node[0].attribute.retain(|a| a.name != "nodes_treeids"));
    assert!(text.contains("nodes_treeids is missing"), "{text}");
}

#[test]
fn operators_that_change_values_around_the_ensemble_are_refused() {
    let text = spoiled_node(|m| graph(m).node.push(node("ZipMap", &["scores"], &["maps"])));
    assert!(text.contains("operator ZipMap stands beside"), "{text}");
    let text = spoiled_node(|m| {
        let second = graph(m).node[0].clone();
        graph(m).node.push(second);
    });
    assert!(text.contains("operator TreeEnsembleClassifier stands beside"), "{text}");
    let text = spoiled_node(|m| graph(m).node[0].input[0] = "elsewhere".to_owned());
    assert!(text.contains("only input"), "{text}");
    let text = spoiled_node(|m| graph(m).output.retain(|o| o.name != "scores"));
    assert!(text.contains("must be an output"), "{text}");
    // A cast to whole numbers (7) would change the input of the trees.
    let cast = |to| with_int(node("Cast", &["features"], &["cast"]), "to", to);
    let around = |m: &mut ModelProto, to| {
        graph(m).node[0].input[0] = "cast".to_owned();
        graph(m).node.insert(0, cast(to));
    };
    let text = spoiled_node(|m| around(m, 7));
    assert!(text.contains("only input"), "{text}");
    let mut model = columns().model();
    around(&mut model, 1);
    assert_eq!(from_model(&model).unwrap().engine(), "forest");
}

#[test]
fn files_that_are_not_models_are_refused() {
    let whole = columns().model().encode_to_vec();
    for bytes in [&[][..], b"\0", b"<html>not here</html>", &whole[..whole.len() / 2]] {
        let text = Model::from_bytes(bytes, only_forests).unwrap_err().to_string();
        assert!(!text.is_empty() && text.len() < 400, "{text}");
    }
    let mut random = Random(5);
    for _ in 0..200 {
        let noise: Vec<_> = (0..random.below(400)).map(|_| random.draw() as u8).collect();
        assert!(Model::from_bytes(&noise, only_forests).is_err());
    }
    let mut model = columns().model();
    model.graph = None;
    assert!(matches!(from_model(&model), Err(ModelError::NoGraph)));
    set(&mut model, "feature_names", None);
    let text = from_model(&model).unwrap_err().to_string();
    assert!(text.contains("no `feature_names`"), "{text}");
}

/// A corrupted file ends in an error or in another model, which then answers with numbers.
#[test]
fn flipped_bytes_never_panic() {
    let mut random = Random(6);
    let (mut accepted, mut refused) = (0, 0);
    let files = [columns().model(), with_metadata(XGBOOST), with_metadata(LIGHTGBM)];
    for whole in files.map(|model| model.encode_to_vec()) {
        for _ in 0..3000 {
            let mut bytes = whole.clone();
            for _ in 0..=random.below(3) {
                let at = random.below(bytes.len());
                bytes[at] = random.draw() as u8;
            }
            if random.below(10) == 0 {
                bytes.truncate(random.below(bytes.len()));
            }
            match Classifier::from(Model::from_bytes(&bytes, only_forests)) {
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
    }
    assert!(accepted > 20 && refused > 20, "{accepted} {refused}");
}

#[test]
fn another_classifier_is_refused_without_an_engine_for_it() {
    let other = model(vec![node("Relu", &["features"], &["scores"])], Vec::new());
    let text = from_model(&other).unwrap_err().to_string();
    assert!(text.contains("build the agent with its feature `tract`"), "{text}");
}

#[test]
fn a_file_that_is_too_large_is_refused() {
    let huge = vec![0; MAX_BYTES as usize + 1];
    assert!(matches!(Model::from_bytes(&huge, only_forests), Err(ModelError::TooLarge)));
}

/// The largest and the smallest that are accepted, side by side.
#[test]
fn shares_of_extreme_trees_are_finite() {
    let leaf = |score: f32, cover| Tree::leaf([score, -score, 0.0], cover);
    let tree = (0..COUNT)
        .fold(leaf(1e30, 1e-6), |tree, column| Tree::split(column, 0.5, leaf(-1e30, 1e12), tree));
    let model = Columns::of(&vec![tree; 100]).model();
    let classifier = Classifier::from(from_model(&model));
    for row in [[0.0; COUNT], [1.0; COUNT]].map(FeatureVector::new) {
        assert!(classifier.decide(&row).is_ok());
        for action in Action::ALL {
            for shares in [classifier.shares(&row, action), classifier.explain(&row, action)] {
                assert!(shares.iter().all(|share| share.is_finite()), "{shares:?}");
            }
        }
    }
}
