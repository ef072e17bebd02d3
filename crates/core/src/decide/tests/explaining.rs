//! Shares against their definitions.
use super::super::testing::{Columns, Random, Tree};
use crate::features::schema::COUNT;

fn forests() -> impl Iterator<Item = (Vec<Tree>, [f32; COUNT])> {
    let mut random = Random(3);
    (0..40).map(move |i| {
        let trees = (0..1 + i % 4).map(|_| Tree::random(&mut random, 6, 5)).collect();
        (trees, random.row())
    })
}

#[test]
fn shares_sum_to_the_difference_from_the_mean() {
    for (trees, row) in forests() {
        let forest = Columns::of(&trees).compile().unwrap();
        for class in 0..3 {
            let difference = forest.predict(&row)[class] - forest.expected(class);
            for shares in [forest.path_attribution(&row, class), forest.tree_shap(&row, class)] {
                let sum: f64 = shares.iter().sum();
                assert!((sum - difference).abs() < 1e-5, "{sum} {difference}");
            }
        }
    }
}

/// Shapley values by definition: the column's mean contribution to every subset of the others.
fn shapley(trees: &[Tree], row: &[f32; COUNT], class: usize, columns: usize) -> Vec<f64> {
    let mean = |known| trees.iter().map(|t| t.mean(row, known, class)).sum::<f64>();
    let factorial = |n: u32| (1..=n).map(f64::from).product::<f64>();
    let all = columns as u32;
    let share = |column: usize| {
        let subsets = (0..1_usize << columns).filter(|s| s >> column & 1 == 0);
        let terms = subsets.map(|s| {
            let size = s.count_ones();
            let weight = factorial(size) * factorial(all - size - 1) / factorial(all);
            weight * (mean(s | 1 << column) - mean(s))
        });
        terms.sum()
    };
    (0..columns).map(share).collect()
}

#[test]
fn tree_shap_equals_shapley_values_by_definition() {
    for (trees, row) in forests() {
        let forest = Columns::of(&trees).compile().unwrap();
        for class in 0..3 {
            let found = forest.tree_shap(&row, class);
            for (i, expected) in shapley(&trees, &row, class, 5).into_iter().enumerate() {
                assert!((found[i] - expected).abs() < 1e-6, "{} {expected}", found[i]);
            }
            assert_eq!(found[5..], [0.0; COUNT - 5]);
        }
    }
}

#[test]
fn path_attribution_credits_each_split_with_the_change_of_the_mean() {
    let leaf = |score, cover| Tree::leaf([score, 0.0, 0.0], cover);
    let low = Tree::split(1, 0.5, leaf(0.0, 1.0), leaf(1.0, 3.0));
    let forest = Columns::of(&[Tree::split(0, 0.5, low, leaf(0.25, 4.0))]).compile().unwrap();
    // Means: root 0.5, below column 0 at most 0.5: 0.75, leaf 1.
    let mut row = [0.0; COUNT];
    row[1] = 1.0;
    let shares = forest.path_attribution(&row, 0);
    assert_eq!(shares[..2], [0.25, 0.25]);
    assert!((forest.expected(0) - 0.5).abs() < 1e-9);
}

#[test]
fn without_covers_shares_are_path_attribution() {
    let mut random = Random(4);
    let trees = [Tree::random(&mut random, 6, 5), Tree::random(&mut random, 6, 5)];
    let mut columns = Columns::of(&trees);
    let row = random.row();
    let known = columns.compile().unwrap();
    assert_eq!(known.shares(&row, 2), known.tree_shap(&row, 2));
    for covers in [vec![1.0; columns.covers.len()], Vec::new()] {
        columns.covers = covers;
        let unknown = columns.compile().unwrap();
        assert_eq!(unknown.shares(&row, 2), unknown.path_attribution(&row, 2));
        let difference = unknown.predict(&row)[2] - unknown.expected(2);
        assert!((unknown.shares(&row, 2).iter().sum::<f64>() - difference).abs() < 1e-5);
    }
}
