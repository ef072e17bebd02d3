//! Compiles the columns of an ensemble into a [`Forest`], or reports what is wrong with them.
//!
//! A model file is not trusted: ids may point anywhere, trees may contain cycles, thresholds may
//! not be numbers. All of it is checked here once, so that the walk over the forest need not check.
//! Each node must be reached exactly once from its tree's root; that alone excludes cycles, shared
//! nodes and orphans.
use std::ops::RangeInclusive;

use super::{
    ensemble::{Ensemble, shown},
    forest::{CLASSES, Forest, Group, LANES, Node},
    forest_error::{ForestError, MAX_DEPTH, MAX_NODES, MAX_STEPS},
    index::{Index, id},
    link::Link,
};
use crate::features::schema::COUNT;

/// Maximum class score of a leaf or of the base, far beyond any probability or margin: what is
/// summed over the largest forest stays finite as `f32`.
const MAX_SCORE: f32 = 1e30;
/// Training rows of a leaf, which may be weighted: the share of a leaf in the largest forest stays
/// above zero as `f32`, since it is divided by.
const COVER: RangeInclusive<f32> = 1e-6..=1e12;

impl Forest {
    /// Compiles an ensemble.
    ///
    /// # Errors
    /// The first error in it; see [`ForestError`].
    pub(super) fn compile(ensemble: &Ensemble<'_>) -> Result<Self, ForestError> {
        check_columns(ensemble)?;
        let link = Link::named(ensemble.post_transform)
            .ok_or_else(|| ForestError::PostTransform { name: lossy(ensemble.post_transform) })?;
        let index = Index::of(ensemble)?;
        let scores = leaf_scores(ensemble, &index)?;
        let mut builder = Builder::new(ensemble, scores);
        let mut trees = (0..index.trees())
            .map(|tree| builder.add_tree(tree, index.tree(tree)))
            .collect::<Result<Vec<_>, _>>()?;
        builder.finish(&mut trees, link)
    }
}

fn check_columns(e: &Ensemble<'_>) -> Result<(), ForestError> {
    let nodes = e.node_ids.len();
    if nodes == 0 || nodes > MAX_NODES {
        return Err(ForestError::Size { found: nodes });
    }
    // First, since a model of two classes differs in more than this.
    if e.labels != [0, 1, 2] {
        return Err(ForestError::Labels);
    }
    let leaves = e.leaf_weights.len();
    for (name, found, expected) in [
        ("nodes_treeids", e.tree_ids.len(), nodes),
        ("nodes_featureids", e.feature_ids.len(), nodes),
        ("nodes_values", e.thresholds.len(), nodes),
        ("nodes_modes", e.modes.len(), nodes),
        ("nodes_truenodeids", e.true_ids.len(), nodes),
        ("nodes_falsenodeids", e.false_ids.len(), nodes),
        ("class_treeids", e.leaf_tree_ids.len(), leaves),
        ("class_nodeids", e.leaf_node_ids.len(), leaves),
        ("class_ids", e.leaf_class_ids.len(), leaves),
    ] {
        same_length(name, found, expected)?;
    }
    if !e.covers.is_empty() {
        same_length("nodes_hitrates", e.covers.len(), nodes)?;
    }
    if !e.base_values.is_empty() {
        same_length("base_values", e.base_values.len(), CLASSES)?;
    }
    within("base_values", e.base_values, MAX_SCORE)?;
    within("class_weights", e.leaf_weights, MAX_SCORE)?;
    Ok(())
}

fn same_length(name: &'static str, found: usize, expected: usize) -> Result<(), ForestError> {
    if found == expected { Ok(()) } else { Err(ForestError::Length { name, found, expected }) }
}

/// No value is beyond `most`; this form also refuses NaN.
fn within(name: &'static str, values: &[f32], most: f32) -> Result<(), ForestError> {
    match values.iter().position(|v| !(-most..=most).contains(v)) {
        Some(index) => Err(ForestError::Value { name, index, found: values[index] }),
        None => Ok(()),
    }
}

/// The threshold `t` for which `value <= t` means what the mode says. Between a number and the next
/// smaller one there is no `f32`, so `value < t` is `value <= t.next_down()`: for zeros of either
/// sign, and below the smallest finite threshold, where no value of a row is.
fn inclusive(threshold: f32, mode: &[u8]) -> f32 {
    if mode == b"BRANCH_LT" { threshold.next_down() } else { threshold }
}

fn lossy(name: &[u8]) -> String {
    shown(&String::from_utf8_lossy(&name[..name.len().min(64)]))
}

/// Class scores per position in the columns; zero if the file has none.
fn leaf_scores(e: &Ensemble<'_>, index: &Index) -> Result<Vec<[f32; CLASSES]>, ForestError> {
    let mut scores = vec![[f32::NAN; CLASSES]; e.node_ids.len()];
    for i in 0..e.leaf_weights.len() {
        let tree = id("class_treeids", e.leaf_tree_ids, i, index.trees())?;
        let tree = index.tree(tree);
        let node = tree[id("class_nodeids", e.leaf_node_ids, i, tree.len())?];
        let class = id("class_ids", e.leaf_class_ids, i, CLASSES)?;
        let score = &mut scores[node][class];
        if e.modes[node] != b"LEAF" || !score.is_nan() {
            let (name, found) = ("class_nodeids", e.leaf_node_ids[i]);
            return Err(ForestError::Id { name, index: i, found });
        }
        *score = e.leaf_weights[i];
    }
    for score in scores.iter_mut().flatten().filter(|s| s.is_nan()) {
        *score = 0.0;
    }
    Ok(scores)
}

#[derive(Clone, Copy)]
struct Tree {
    root: u32,
    depth: u32,
}

struct Builder<'a> {
    ensemble: &'a Ensemble<'a>,
    scores: Vec<[f32; CLASSES]>,
    has_covers: bool,
    nodes: Vec<Node>,
    values: Vec<[f32; CLASSES]>,
    covers: Vec<f32>,
}

impl<'a> Builder<'a> {
    fn new(ensemble: &'a Ensemble<'a>, scores: Vec<[f32; CLASSES]>) -> Self {
        // skl2onnx writes 1.0 everywhere when it means "unknown".
        let has_covers = ensemble.covers.iter().any(|c| c.to_bits() != 1f32.to_bits());
        let (nodes, values, covers) = (Vec::new(), Vec::new(), Vec::new());
        Self { ensemble, scores, has_covers, nodes, values, covers }
    }

    /// Lays out a tree breadth first, so that children are adjacent.
    fn add_tree(&mut self, tree: usize, positions: &[usize]) -> Result<Tree, ForestError> {
        if positions.is_empty() {
            return Err(ForestError::Empty { tree });
        }
        let e = self.ensemble;
        let first = self.nodes.len();
        // The node id and depth of each slot, in slot order; later slots are queued.
        let mut slots = vec![(0_usize, 0_u32)];
        let mut reached = vec![false; positions.len()];
        let mut done = 0;
        while let Some(&(node, depth)) = slots.get(done) {
            if std::mem::replace(&mut reached[node], true) {
                return Err(ForestError::Shared { tree, node });
            }
            if depth > MAX_DEPTH {
                return Err(ForestError::Depth { tree });
            }
            let at = positions[node];
            match e.modes[at].as_slice() {
                b"LEAF" => self.nodes.push(Node::leaf(first + done)),
                mode @ (b"BRANCH_LEQ" | b"BRANCH_LT") => {
                    within("nodes_values", &e.thresholds[at..=at], f32::MAX)?;
                    let threshold = inclusive(e.thresholds[at], mode);
                    let column = id("nodes_featureids", e.feature_ids, at, COUNT)?;
                    let children = [
                        id("nodes_truenodeids", e.true_ids, at, positions.len())?,
                        id("nodes_falsenodeids", e.false_ids, at, positions.len())?,
                    ];
                    self.nodes.push(Node::branch(column, threshold, first + slots.len()));
                    slots.extend(children.map(|child| (child, depth + 1)));
                }
                mode => return Err(ForestError::Mode { name: lossy(mode) }),
            }
            done += 1;
        }
        if done < positions.len() {
            return Err(ForestError::Orphans { tree, count: positions.len() - done });
        }
        self.fill_values(first, positions, &slots)?;
        Ok(Tree { root: first as u32, depth: slots.last().map_or(0, |s| s.1) })
    }

    /// Covers and mean scores, from the leaves up. Only the leaves' covers come from the file, so
    /// that those of the branches cannot contradict them.
    fn fill_values(
        &mut self,
        first: usize,
        positions: &[usize],
        slots: &[(usize, u32)],
    ) -> Result<(), ForestError> {
        let mut means = vec![([0.0; CLASSES], 0.0); slots.len()];
        for slot in (0..slots.len()).rev() {
            let node = self.nodes[first + slot];
            means[slot] = if node.is_leaf() {
                let at = positions[slots[slot].0];
                (self.scores[at].map(f64::from), f64::from(self.leaf_cover(at)?))
            } else {
                let left = node.left() - first;
                mean(&means[left], &means[left + 1])
            };
        }
        self.values.extend(means.iter().map(|(value, _)| value.map(|v| v as f32)));
        self.covers.extend(means.iter().map(|(_, cover)| *cover as f32));
        Ok(())
    }

    fn leaf_cover(&self, index: usize) -> Result<f32, ForestError> {
        if !self.has_covers {
            return Ok(1.0);
        }
        let found = self.ensemble.covers[index];
        if COVER.contains(&found) {
            Ok(found)
        } else {
            Err(ForestError::Value { name: "nodes_hitrates", index, found })
        }
    }

    fn finish(mut self, trees: &mut [Tree], link: Link) -> Result<Forest, ForestError> {
        // An empty tree fills up the last group.
        let nothing = Tree { root: self.nodes.len() as u32, depth: 0 };
        self.nodes.push(Node::leaf(self.nodes.len()));
        self.values.push([0.0; CLASSES]);
        self.covers.push(1.0);
        // Equally deep trees walk together, so that no lane idles in its leaf.
        trees.sort_by_key(|t| t.depth);
        let groups: Box<[Group]> = trees.chunks(LANES).map(|t| group(t, nothing)).collect();
        let found = groups.iter().map(|g| g.depth as usize * LANES).sum::<usize>();
        if found > MAX_STEPS {
            return Err(ForestError::Steps { found });
        }
        let mut base = [0.0; CLASSES];
        for (sum, value) in base.iter_mut().zip(self.ensemble.base_values) {
            *sum = f64::from(*value);
        }
        Ok(Forest {
            nodes: self.nodes.into(),
            values: self.values.into(),
            covers: self.covers.into(),
            groups,
            base,
            link,
            trees: trees.len(),
            has_covers: self.has_covers,
        })
    }
}

fn group(trees: &[Tree], nothing: Tree) -> Group {
    let mut roots = [nothing.root; LANES];
    for (root, tree) in roots.iter_mut().zip(trees) {
        *root = tree.root;
    }
    Group { roots, depth: trees.iter().map(|t| t.depth).max().unwrap_or(0) }
}

type Mean = ([f64; CLASSES], f64);

fn mean((left, left_cover): &Mean, (right, right_cover): &Mean) -> Mean {
    let cover = left_cover + right_cover;
    let blend = |k: usize| (left[k] * left_cover + right[k] * right_cover) / cover;
    ([blend(0), blend(1), blend(2)], cover)
}
