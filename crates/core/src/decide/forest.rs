//! The flat forest, which makes hundreds of decisions a second cheap.
//!
//! A node is 8 bytes and its children are adjacent, so that one comparison yields the next index
//! without a branch. A leaf points to itself. So every tree takes the same fixed number of steps,
//! and a group of trees walks in lockstep, which hides the memory latency of a single walk. Nothing
//! is allocated.
//!
//! Only [`compile`](super::compile), which checks the file, creates a forest. Rows must be finite:
//! a NaN would take the false branch everywhere and give a confident answer;
//! [`Classifier`](super::Classifier) refuses such rows.
use super::link::Link;
use crate::features::schema::COUNT;

/// Number of classes.
pub(super) const CLASSES: usize = 3;

/// Number of trees, or rows of a batch, that walk in lockstep.
pub(super) const LANES: usize = 20;

/// A row with a place for the column that leaves read, which holds −∞ and so never exceeds a
/// threshold. Its size is a power of two, so that a column of a few bits needs no bounds check.
pub(super) type Padded = [f32; 1 << COLUMN_BITS];
pub(super) const COLUMN_BITS: u32 = 5;
const LEAF_COLUMN: usize = (1 << COLUMN_BITS) - 1;
const _: () = assert!(COUNT <= LEAF_COLUMN, "a column more needs another bit");

/// One node: the threshold, and the index of the child for `value <= threshold` (the other child
/// follows it) above the bits of the column.
#[derive(Clone, Copy, Debug)]
pub(super) struct Node {
    pub(super) threshold: f32,
    link: u32,
}

impl Node {
    /// A branch whose children are at `left` and `left + 1`.
    pub(super) const fn branch(column: usize, threshold: f32, left: usize) -> Self {
        Self { threshold, link: ((left as u32) << COLUMN_BITS) | column as u32 }
    }

    /// A leaf at position `own`.
    pub(super) const fn leaf(own: usize) -> Self {
        Self::branch(LEAF_COLUMN, 0.0, own)
    }

    pub(super) const fn column(self) -> usize {
        self.link as usize & LEAF_COLUMN
    }

    pub(super) const fn left(self) -> usize {
        (self.link >> COLUMN_BITS) as usize
    }

    pub(super) const fn is_leaf(self) -> bool {
        self.column() == LEAF_COLUMN
    }
}

/// Trees that walk in lockstep, and the depth of the deepest.
#[derive(Clone, Debug)]
pub(super) struct Group {
    pub(super) roots: [u32; LANES],
    pub(super) depth: u32,
}

/// Validated trees, of a random forest or boosted, over the columns of the schema and three classes.
#[derive(Clone, Debug)]
pub struct Forest {
    pub(super) nodes: Box<[Node]>,
    /// Per node: the class scores of a leaf; for a branch, the mean of its leaves.
    pub(super) values: Box<[[f32; CLASSES]]>,
    /// Per node: the weight of the training rows that passed it.
    pub(super) covers: Box<[f32]>,
    pub(super) groups: Box<[Group]>,
    pub(super) base: [f64; CLASSES],
    pub(super) link: Link,
    pub(super) trees: usize,
    pub(super) has_covers: bool,
}

impl Forest {
    /// Sums of the leaves of one row per class: probabilities for a forest from scikit-learn, margins
    /// for boosted trees.
    #[must_use]
    pub fn predict(&self, row: &[f32; COUNT]) -> [f64; CLASSES] {
        let row = padded(row);
        let mut scores = self.base;
        for group in &self.groups {
            let mut at = group.roots;
            for _ in 0..group.depth {
                for a in &mut at {
                    *a = self.next(*a, &row);
                }
            }
            for a in at {
                add(&mut scores, &self.values[a as usize]);
            }
        }
        scores
    }

    /// Sums of the leaves of many rows: the rows, not the trees, walk in lockstep. Predicts as many
    /// rows as the shorter slice holds.
    pub fn predict_batch(&self, rows: &[[f32; COUNT]], scores: &mut [[f64; CLASSES]]) {
        let (chunks, rest) = rows.as_chunks::<LANES>();
        let mut scores = scores.iter_mut();
        for chunk in chunks {
            let sums = self.predict_chunk(chunk);
            scores.by_ref().zip(sums).for_each(|(score, sum)| *score = sum);
        }
        for (score, row) in scores.zip(rest) {
            *score = self.predict(row);
        }
    }

    fn predict_chunk(&self, rows: &[[f32; COUNT]; LANES]) -> [[f64; CLASSES]; LANES] {
        let rows = rows.each_ref().map(padded);
        let mut sums = [self.base; LANES];
        for group in &self.groups {
            for root in group.roots {
                let mut at = [root; LANES];
                for _ in 0..group.depth {
                    for (a, row) in at.iter_mut().zip(&rows) {
                        *a = self.next(*a, row);
                    }
                }
                for (sum, a) in sums.iter_mut().zip(at) {
                    add(sum, &self.values[a as usize]);
                }
            }
        }
        sums
    }

    /// The file's scores from the sums of a row.
    #[must_use]
    pub fn scores(&self, sums: [f64; CLASSES]) -> [f64; CLASSES] {
        self.link.apply(sums)
    }

    /// Whether a sum can be below zero and is a score as it is: such scores are margins, which say
    /// nothing about confidence without a calibration.
    pub(super) fn has_bare_margins(&self) -> bool {
        let negative = |values: &[f32; CLASSES]| values.iter().any(|v| *v < 0.0);
        let any = self.base.iter().any(|b| *b < 0.0) || self.values.iter().any(negative);
        self.link == Link::None && any
    }

    /// Number of trees.
    #[must_use]
    pub const fn trees(&self) -> usize {
        self.trees
    }

    /// Number of nodes, leaves included.
    #[must_use]
    pub const fn nodes(&self) -> usize {
        self.nodes.len()
    }

    #[inline(always)]
    pub(super) fn next(&self, at: u32, row: &Padded) -> u32 {
        let node = self.nodes[at as usize];
        (node.link >> COLUMN_BITS) + u32::from(row[node.column()] > node.threshold)
    }
}

pub(super) fn padded(row: &[f32; COUNT]) -> Padded {
    let mut padded: Padded = [0.0; 1 << COLUMN_BITS];
    padded[..COUNT].copy_from_slice(row);
    padded[LEAF_COLUMN] = f32::NEG_INFINITY;
    padded
}

#[inline(always)]
fn add(sums: &mut [f64; CLASSES], values: &[f32; CLASSES]) {
    for (sum, value) in sums.iter_mut().zip(values) {
        *sum += f64::from(*value);
    }
}
