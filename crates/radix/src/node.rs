//! One edge of the tree with what hangs below it: a stretch of a run.

use hashbrown::HashMap;

use crate::cover::Cover;
use crate::run::{NO_RUN, RunId};
use crate::{Holder, tree::NodeId};

#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) run: RunId,
    /// Position of its first block in the run.
    pub(crate) start: u32,
    /// Blocks; none for the root only.
    pub(crate) len: u32,
    pub(crate) parent: NodeId,
    pub(crate) children: Children,
    /// Who has some of its blocks, sorted by holder. Most have one, a shared system
    /// prompt has them all, and a vector serves both.
    pub(crate) covers: Vec<Cover>,
}

impl Default for Node {
    fn default() -> Self {
        let children = Children::None;
        Self { run: NO_RUN, start: 0, len: 0, parent: 0, children, covers: Vec::new() }
    }
}

impl Node {
    pub(crate) fn end(&self) -> u32 {
        self.start + self.len
    }

    pub(crate) fn position(&self, holder: Holder) -> Result<usize, usize> {
        self.covers.binary_search_by_key(&holder, |cover| cover.holder)
    }

    /// What `holder` has here, perhaps nothing yet.
    pub(crate) fn cover_mut(&mut self, holder: Holder) -> &mut Cover {
        let at = self.position(holder).unwrap_or_else(|at| {
            if self.covers.len() == self.covers.capacity() {
                // One is the rule; a vector's own first step would be four.
                self.covers.reserve_exact(1 + self.covers.len() / 4);
            }
            self.covers.insert(at, Cover::nothing(holder));
            at
        });
        &mut self.covers[at]
    }

    /// One behind the last block that anybody has.
    pub(crate) fn held_end(&self) -> u32 {
        self.covers.iter().map(Cover::end).max().unwrap_or(0)
    }
}

/// The nodes below one, by their first local hash.
#[derive(Debug)]
pub(crate) enum Children {
    None,
    One(u64, NodeId),
    Many(Box<HashMap<u64, NodeId>>),
}

impl Children {
    pub(crate) fn get(&self, local: u64) -> Option<NodeId> {
        match self {
            Self::None => None,
            Self::One(key, node) => (*key == local).then_some(*node),
            Self::Many(map) => map.get(&local).copied(),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        matches!(self, Self::None)
    }

    pub(crate) fn only(&self) -> Option<NodeId> {
        match self {
            Self::One(_, node) => Some(*node),
            Self::None | Self::Many(_) => None,
        }
    }

    pub(crate) fn insert(&mut self, local: u64, node: NodeId) {
        match self {
            Self::None => *self = Self::One(local, node),
            Self::One(key, only) if *key == local => *only = node,
            Self::One(key, only) => {
                let both = [(*key, *only), (local, node)];
                *self = Self::Many(Box::new(HashMap::from_iter(both)));
            }
            Self::Many(map) => {
                map.insert(local, node);
            }
        }
    }

    pub(crate) fn remove(&mut self, local: u64) {
        match self {
            Self::None => {}
            Self::One(key, _) => {
                if *key == local {
                    *self = Self::None;
                }
            }
            Self::Many(map) => {
                map.remove(&local);
                if map.len() == 1
                    && let Some((&key, &node)) = map.iter().next()
                {
                    *self = Self::One(key, node);
                } else if map.len() * 4 < map.capacity() {
                    map.shrink_to(map.len() * 2);
                }
            }
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, NodeId)> {
        let one = match self {
            Self::One(key, node) => Some((*key, *node)),
            Self::None | Self::Many(_) => None,
        };
        let many = match self {
            Self::Many(map) => Some(map.iter().map(|(&key, &node)| (key, node))),
            Self::None | Self::One(..) => None,
        };
        one.into_iter().chain(many.into_iter().flatten())
    }
}
