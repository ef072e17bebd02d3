//! Which columns led to the forest's decision.
//!
//! There are two methods. *Path attribution* credits each split on the way to a leaf with the
//! change of the mean that it causes. It takes one more walk, so whatever is told has it, but it
//! favours splits near the root. So a decision that is about to be acted on gets the exact method:
//! *path-dependent `TreeSHAP`*, the Shapley values of the columns, at some milliseconds a row. Both
//! sum to the difference between the row's score and the training mean.
//!
//! The score is here the sum of the leaves of a class, before softmax or a sigmoid, since only sums
//! can be divided among the columns. For boosted trees with softmax it is the margin: a share of +1
//! multiplies the odds against each other class by e. Files from onnxmltools hold no number of
//! training rows, so their shares are path attribution, in which all leaves of a tree weigh the same.
use super::forest::{CLASSES, COLUMN_BITS, Forest, Padded, padded};
use crate::features::schema::COUNT;

/// The root and every column once: a repeated column is taken out before it is put back.
const PATH: usize = COUNT + 1;

impl Forest {
    /// The mean score of `class` (0–2) over the forest's training rows.
    #[must_use]
    pub fn expected(&self, class: usize) -> f64 {
        let roots = self.groups.iter().flat_map(|g| g.roots);
        self.base[class] + roots.map(|r| f64::from(self.values[r as usize][class])).sum::<f64>()
    }

    /// Each column's share in the score of `class` (0–2), by path attribution.
    #[must_use]
    pub fn path_attribution(&self, row: &[f32; COUNT], class: usize) -> [f64; COUNT] {
        let row = padded(row);
        let value = |at: u32| f64::from(self.values[at as usize][class]);
        // As wide as a padded row: what leaves add is always zero and falls off the end.
        let mut shares = [0.0; 1 << COLUMN_BITS];
        for group in &self.groups {
            let mut at = group.roots;
            for _ in 0..group.depth {
                for a in &mut at {
                    let next = self.next(*a, &row);
                    shares[self.nodes[*a as usize].column()] += value(next) - value(*a);
                    *a = next;
                }
            }
        }
        std::array::from_fn(|i| shares[i])
    }

    /// Each column's share in the score of `class` (0–2): Shapley values if the model has the
    /// number of training rows per node, else path attribution.
    #[must_use]
    pub fn shares(&self, row: &[f32; COUNT], class: usize) -> [f64; COUNT] {
        if self.has_covers { self.tree_shap(row, class) } else { self.path_attribution(row, class) }
    }

    /// Exact path-dependent `TreeSHAP` (Lundberg et al., 2018, algorithm 2).
    #[must_use]
    pub fn tree_shap(&self, row: &[f32; COUNT], class: usize) -> [f64; COUNT] {
        let mut walk = Walk { forest: self, row: &padded(row), class, shares: [0.0; COUNT] };
        for root in self.groups.iter().flat_map(|g| g.roots) {
            walk.descend(root as usize, Path::new());
        }
        walk.shares
    }
}

/// One column on the way down: the fractions of rows that go on when it is unknown (`zero`) and
/// when it is known (`one`), and the weight of the subsets of that size.
#[derive(Clone, Copy, Default)]
struct Step {
    column: usize,
    zero: f64,
    one: f64,
    weight: f64,
}

#[derive(Clone, Copy)]
struct Path {
    steps: [Step; PATH],
    len: usize,
}

impl Path {
    fn new() -> Self {
        let mut path = Self { steps: [Step::default(); PATH], len: 0 };
        path.extend(usize::MAX, 1.0, 1.0);
        path
    }

    fn extend(&mut self, column: usize, zero: f64, one: f64) {
        let last = self.len;
        let weight = if last == 0 { 1.0 } else { 0.0 };
        self.steps[last] = Step { column, zero, one, weight };
        let size = (last + 1) as f64;
        for i in (0..last).rev() {
            let weight = self.steps[i].weight;
            self.steps[i + 1].weight += one * weight * (i + 1) as f64 / size;
            self.steps[i].weight = zero * weight * (last - i) as f64 / size;
        }
        self.len += 1;
    }

    /// Takes step `at` out, as if the path had never been extended by it.
    fn unwind(&mut self, at: usize) {
        let last = self.len - 1;
        let Step { zero, one, .. } = self.steps[at];
        let size = self.len as f64;
        let mut next = self.steps[last].weight;
        for i in (0..last).rev() {
            let step = &mut self.steps[i].weight;
            if one == 0.0 {
                *step = *step * size / (zero * (last - i) as f64);
            } else {
                let weight = *step;
                *step = next * size / ((i + 1) as f64 * one);
                next = weight - *step * zero * (last - i) as f64 / size;
            }
        }
        for i in at..last {
            let Step { column, zero, one, .. } = self.steps[i + 1];
            self.steps[i] = Step { column, zero, one, ..self.steps[i] };
        }
        self.len = last;
    }

    /// The sum of the weights that would remain without step `at`: the result of [`Path::unwind`],
    /// without a copy of the path for each step of each leaf.
    fn weight_without(&self, at: usize) -> f64 {
        let last = self.len - 1;
        let Step { zero, one, .. } = self.steps[at];
        let (mut next, mut sum) = (self.steps[last].weight, 0.0);
        for i in (0..last).rev() {
            let weight = self.steps[i].weight;
            if one == 0.0 {
                sum += weight / (zero * (last - i) as f64);
            } else {
                let without = next / ((i + 1) as f64 * one);
                next = weight - without * zero * (last - i) as f64;
                sum += without;
            }
        }
        sum * self.len as f64
    }
}

struct Walk<'a> {
    forest: &'a Forest,
    row: &'a Padded,
    class: usize,
    shares: [f64; COUNT],
}

impl Walk<'_> {
    /// The recursion is bounded: a compiled tree is at most 64 deep.
    fn descend(&mut self, at: usize, mut path: Path) {
        let node = self.forest.nodes[at];
        if node.is_leaf() {
            return self.credit(self.forest.values[at], &path);
        }
        let (mut zero, mut one) = (1.0, 1.0);
        let known = path.steps[..path.len].iter().position(|s| s.column == node.column());
        if let Some(known) = known {
            Step { zero, one, .. } = path.steps[known];
            path.unwind(known);
        }
        let hot = self.forest.next(at as u32, self.row) as usize;
        for child in [node.left(), node.left() + 1] {
            let mut path = path;
            let cover = f64::from(self.forest.covers[child] / self.forest.covers[at]);
            let one = if child == hot { one } else { 0.0 };
            path.extend(node.column(), zero * cover, one);
            self.descend(child, path);
        }
    }

    fn credit(&mut self, leaf: [f32; CLASSES], path: &Path) {
        let value = f64::from(leaf[self.class]);
        for i in 1..path.len {
            let Step { column, zero, one, .. } = path.steps[i];
            self.shares[column] += path.weight_without(i) * (one - zero) * value;
        }
    }
}
