//! The ids of an ensemble: where each tree's nodes stand in the columns.
use super::{ensemble::Ensemble, forest_error::ForestError};

/// The position of each tree's nodes in the columns: `start[t]..start[t + 1]` of `order`, by node
/// id.
pub(super) struct Index {
    start: Vec<usize>,
    order: Vec<usize>,
}

/// The id at `index` of a column, if it is below `limit`.
pub(super) fn id(
    name: &'static str,
    column: &[i64],
    index: usize,
    limit: usize,
) -> Result<usize, ForestError> {
    let found = column[index];
    let id = usize::try_from(found).ok().filter(|&id| id < limit);
    id.ok_or(ForestError::Id { name, index, found })
}

impl Index {
    pub(super) fn of(e: &Ensemble<'_>) -> Result<Self, ForestError> {
        let nodes = e.node_ids.len();
        let mut start = vec![0; nodes + 1];
        for i in 0..nodes {
            start[id("nodes_treeids", e.tree_ids, i, nodes)? + 1] += 1;
        }
        while start.last() == Some(&0) {
            start.pop();
        }
        for t in 1..start.len() {
            start[t] += start[t - 1];
        }
        // Node ids number the nodes of a tree, so each node has exactly one position.
        let mut order = vec![usize::MAX; nodes];
        for i in 0..nodes {
            let tree = id("nodes_treeids", e.tree_ids, i, nodes)?;
            let node = id("nodes_nodeids", e.node_ids, i, start[tree + 1] - start[tree])?;
            let place = &mut order[start[tree] + node];
            if *place != usize::MAX {
                let (name, found) = ("nodes_nodeids", e.node_ids[i]);
                return Err(ForestError::Id { name, index: i, found });
            }
            *place = i;
        }
        Ok(Self { start, order })
    }

    pub(super) fn trees(&self) -> usize {
        self.start.len() - 1
    }

    /// Positions in the columns of a tree's nodes, in the order of their ids.
    pub(super) fn tree(&self, tree: usize) -> &[usize] {
        &self.order[self.start[tree]..self.start[tree + 1]]
    }
}
