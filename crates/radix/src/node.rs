//! One edge of the tree with what hangs below it: a stretch of a run.

use std::sync::atomic::{AtomicU32, Ordering};

use hashbrown::HashMap;

use crate::cover::Cover;
use crate::run::{NO_RUN, RunId};
use crate::seat::{PREDICTED, Seat};
use crate::tree::NodeId;

#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) run: RunId,
    /// Position of its first block in the run.
    pub(crate) start: u32,
    /// Blocks; none for the root only.
    pub(crate) len: u32,
    pub(crate) parent: NodeId,
    /// When a query last came by, or a store: never before those below it.
    pub(crate) stamp: AtomicU32,
    /// The run of the only child, if there is one: asked of memory with the child.
    pub(crate) only_run: RunId,
    pub(crate) children: Children,
    pub(crate) covers: Covers,
}

// A query waits for each node that it visits: more than a line would be two waits.
const _: () = assert!(size_of::<Node>() <= 64);

impl Default for Node {
    fn default() -> Self {
        Self {
            run: NO_RUN,
            start: 0,
            len: 0,
            parent: 0,
            stamp: AtomicU32::new(0),
            only_run: NO_RUN,
            children: Children::None,
            covers: Covers::default(),
        }
    }
}

impl Node {
    /// The node below that begins with `local`.
    pub(crate) fn child(&self, local: u64) -> Option<Child> {
        match &self.children {
            Children::One(key, node) => {
                (*key == local).then_some(Child { node: *node, run: self.only_run })
            }
            Children::Many(map) => map.get(&local).copied(),
            Children::None => None,
        }
    }

    /// The nodes below, by their first local hash.
    pub(crate) fn children(&self) -> impl Iterator<Item = (u64, Child)> {
        let one = match &self.children {
            Children::One(key, node) => Some((*key, Child { node: *node, run: self.only_run })),
            Children::None | Children::Many(_) => None,
        };
        let many = match &self.children {
            Children::Many(map) => Some(map.iter().map(|(&key, &child)| (key, child))),
            Children::None | Children::One(..) => None,
        };
        one.into_iter().chain(many.into_iter().flatten())
    }

    pub(crate) fn end(&self) -> u32 {
        self.start + self.len
    }

    pub(crate) fn stamp(&self) -> u32 {
        self.stamp.load(Ordering::Relaxed)
    }

    /// Remembers that it was used; whether that was not known yet. Readers share the
    /// line, so it is written once a tick only.
    pub(crate) fn touch(&self, now: u32) -> bool {
        let old = self.stamp() != now;
        if old {
            self.stamp.store(now, Ordering::Relaxed);
        }
        old
    }

    /// One behind the last block that anybody has.
    pub(crate) fn held_end(&self) -> u32 {
        self.covers.iter().map(Cover::end).max().unwrap_or(0)
    }

    pub(crate) fn heap(&self) -> usize {
        let bits = self.covers.iter().map(Cover::heap).sum::<usize>();
        self.children.heap() + self.covers.heap() + bits
    }

    /// Covers that rest on predictions.
    pub(crate) fn predicted(&self) -> usize {
        self.covers.iter().filter(|cover| cover.seat.kind() == PREDICTED).count()
    }
}

/// Who has some of a node's blocks, sorted by seat. Most have one, a shared system
/// prompt has them all.
#[derive(Debug)]
pub(crate) enum Covers {
    One(Cover),
    Many(Vec<Cover>),
}

impl Default for Covers {
    fn default() -> Self {
        Self::Many(Vec::new())
    }
}

impl std::ops::Deref for Covers {
    type Target = [Cover];

    fn deref(&self) -> &[Cover] {
        match self {
            Self::One(cover) => std::slice::from_ref(cover),
            Self::Many(covers) => covers,
        }
    }
}

impl std::ops::DerefMut for Covers {
    fn deref_mut(&mut self) -> &mut [Cover] {
        match self {
            Self::One(cover) => std::slice::from_mut(cover),
            Self::Many(covers) => covers,
        }
    }
}

impl IntoIterator for Covers {
    type Item = Cover;
    type IntoIter = std::vec::IntoIter<Cover>;

    fn into_iter(self) -> Self::IntoIter {
        match self {
            Self::One(cover) => vec![cover].into_iter(),
            Self::Many(covers) => covers.into_iter(),
        }
    }
}

impl FromIterator<Cover> for Covers {
    /// Those that are not empty.
    fn from_iter<I: IntoIterator<Item = Cover>>(covers: I) -> Self {
        let mut covers: Vec<Cover> = covers.into_iter().filter(|cover| !cover.is_empty()).collect();
        match covers.pop() {
            Some(only) if covers.is_empty() => Self::One(only),
            Some(last) => {
                covers.push(last);
                covers.shrink_to_fit();
                Self::Many(covers)
            }
            None => Self::default(),
        }
    }
}

impl Covers {
    pub(crate) fn position(&self, seat: Seat) -> Result<usize, usize> {
        match self {
            Self::One(cover) => match cover.seat.cmp(&seat) {
                std::cmp::Ordering::Less => Err(1),
                std::cmp::Ordering::Equal => Ok(0),
                std::cmp::Ordering::Greater => Err(0),
            },
            Self::Many(covers) => covers.binary_search_by_key(&seat, |cover| cover.seat),
        }
    }

    pub(crate) fn find(&self, seat: Seat) -> Option<&Cover> {
        self.position(seat).ok().map(|at| &self[at])
    }

    /// What `seat` has here, perhaps nothing yet.
    pub(crate) fn entry(&mut self, seat: Seat) -> &mut Cover {
        let at = match self.position(seat) {
            Ok(at) => at,
            Err(at) => {
                self.insert(at, Cover::nothing(seat));
                at
            }
        };
        &mut self[at]
    }

    fn insert(&mut self, at: usize, cover: Cover) {
        match self {
            Self::Many(covers) if covers.is_empty() => *self = Self::One(cover),
            Self::Many(covers) => {
                if covers.len() == covers.capacity() {
                    covers.reserve_exact(1 + covers.len() / 4);
                }
                covers.insert(at, cover);
            }
            Self::One(_) => {
                let Self::One(only) = std::mem::take(self) else { return };
                let both = if at == 0 { [cover, only] } else { [only, cover] };
                *self = Self::Many(Vec::from(both));
            }
        }
    }

    pub(crate) fn remove(&mut self, at: usize) {
        match self {
            Self::One(_) => *self = Self::default(),
            Self::Many(covers) => {
                covers.remove(at);
                if covers.len() == 1
                    && let Some(only) = covers.pop()
                {
                    *self = Self::One(only);
                } else if covers.len() * 2 < covers.capacity() {
                    covers.shrink_to_fit();
                }
            }
        }
    }

    /// Without the bitmaps of the covers.
    pub(crate) fn heap(&self) -> usize {
        match self {
            Self::One(_) => 0,
            Self::Many(covers) => covers.capacity() * size_of::<Cover>(),
        }
    }
}

/// A node below another, and its run: a query asks memory for both at once.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(crate) struct Child {
    pub(crate) node: NodeId,
    pub(crate) run: RunId,
}

/// The nodes below one, by their first local hash.
#[derive(Debug)]
pub(crate) enum Children {
    None,
    One(u64, NodeId),
    Many(Box<HashMap<u64, Child>>),
}

impl Children {
    pub(crate) fn heap(&self) -> usize {
        match self {
            Self::None | Self::One(..) => 0,
            Self::Many(map) => size_of_val(&**map) + map.allocation_size(),
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

    /// Puts a node below this one or in another's place.
    ///
    /// `run` is that of the only child, if there is one.
    pub(crate) fn insert(&mut self, local: u64, child: Child, run: RunId) {
        match self {
            Self::None => *self = Self::One(local, child.node),
            Self::One(key, only) if *key == local => *only = child.node,
            Self::One(key, only) => {
                let first = Child { node: *only, run };
                let both = [(*key, first), (local, child)];
                *self = Self::Many(Box::new(HashMap::from_iter(both)));
            }
            Self::Many(map) => {
                map.insert(local, child);
            }
        }
    }

    /// Forgets a node; the run of the only one that is left then, if it was one of many.
    pub(crate) fn remove(&mut self, local: u64) -> Option<RunId> {
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
                    && let Some((&key, &child)) = map.iter().next()
                {
                    *self = Self::One(key, child.node);
                    return Some(child.run);
                } else if map.len() * 4 < map.capacity() {
                    map.shrink_to(map.len() * 2);
                }
            }
        }
        None
    }
}
