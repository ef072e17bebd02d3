//! The flat forest against a plain tree walk.
use super::super::testing::{Columns, Random, Tree};
use crate::features::schema::COUNT;

#[test]
fn random_forests_give_the_scores_of_their_trees() {
    let mut random = Random(1);
    for count in [1, 2, 19, 20, 21, 60] {
        let trees: Vec<_> = (0..count).map(|_| Tree::random(&mut random, 7, COUNT)).collect();
        let mut columns = Columns::of(&trees);
        columns.base_values = vec![0.5, 0.0, -0.25];
        let forest = columns.compile().unwrap();
        assert_eq!(forest.trees(), count);
        let rows: Vec<_> = (0..67).map(|_| random.row()).collect();
        let mut batch = vec![[f64::NAN; 3]; rows.len()];
        forest.predict_batch(&rows, &mut batch);
        for (row, batch) in rows.iter().zip(batch) {
            let single = forest.predict(row);
            for class in 0..3 {
                let base = f64::from(columns.base_values[class]);
                let sum = trees.iter().map(|t| f64::from(t.scores(row)[class])).sum::<f64>();
                assert!((single[class] - base - sum).abs() < 1e-12);
                assert!((batch[class] - base - sum).abs() < 1e-12);
            }
        }
    }
}

#[test]
fn a_value_equal_to_the_threshold_takes_the_true_branch() {
    let low = Tree::leaf([1.0, 0.0, 0.0], 1.0);
    let forest = Columns::of(&[Tree::split(2, 5.5, low, Tree::leaf([0.0, 0.0, 1.0], 1.0))]);
    let forest = forest.compile().unwrap();
    let scores = |v: f32| {
        let mut row = [0.0; COUNT];
        row[2] = v;
        forest.predict(&row)
    };
    assert_eq!(scores(5.5), [1.0, 0.0, 0.0]);
    assert_eq!(scores(5.5f32.next_up()), [0.0, 0.0, 1.0]);
    assert_eq!(scores(f32::MAX), [0.0, 0.0, 1.0]);
    assert_eq!(scores(f32::MIN), [1.0, 0.0, 0.0]);
}

#[test]
fn below_a_strict_threshold_and_not_on_it_is_the_true_branch() {
    let values = [f32::MIN, -1.0, -f32::from_bits(1), -0.0, 0.0, f32::from_bits(1), 5.5, f32::MAX];
    for threshold in values {
        let low = Tree::leaf([1.0, 0.0, 0.0], 1.0);
        let tree = Tree::split(2, threshold, low, Tree::leaf([0.0, 0.0, 1.0], 1.0));
        let mut columns = Columns::of(&[tree]);
        columns.modes[0] = b"BRANCH_LT".to_vec();
        let forest = columns.compile().unwrap();
        for value in
            values.into_iter().flat_map(|v| [v, threshold.next_down(), threshold.next_up()])
        {
            let mut row = [0.0; COUNT];
            row[2] = value.clamp(f32::MIN, f32::MAX);
            let below = forest.predict(&row)[0] > 0.5;
            assert_eq!(below, row[2] < threshold, "{} < {threshold}", row[2]);
        }
    }
}

#[test]
fn the_order_of_the_columns_does_not_matter() {
    let mut random = Random(2);
    let trees: Vec<_> = (0..5).map(|_| Tree::random(&mut random, 5, COUNT)).collect();
    let columns = Columns::of(&trees);
    let mut turned = columns.clone();
    turned.tree_ids.reverse();
    turned.node_ids.reverse();
    turned.feature_ids.reverse();
    turned.thresholds.reverse();
    turned.modes.reverse();
    turned.true_ids.reverse();
    turned.false_ids.reverse();
    turned.covers.reverse();
    let (forest, turned) = (columns.compile().unwrap(), turned.compile().unwrap());
    for _ in 0..50 {
        let row = random.row();
        assert_eq!(forest.predict(&row), turned.predict(&row));
        assert_eq!(forest.tree_shap(&row, 1), turned.tree_shap(&row, 1));
    }
}

#[test]
fn a_batch_fills_the_shorter_of_rows_and_scores() {
    let forest = Columns::of(&[Tree::leaf([0.2, 0.3, 0.5], 1.0)]).compile().unwrap();
    let mut scores = [[0.0; 3]; 5];
    forest.predict_batch(&[[0.0; COUNT]; 3], &mut scores);
    assert!(scores[..3].iter().all(|s| s[2] > 0.4) && scores[3] == [0.0; 3]);
    forest.predict_batch(&[[0.0; COUNT]; 30], &mut scores);
    assert!(scores.iter().all(|s| s[2] > 0.4));
}
