//! Which blocks are in use by requests in flight, shared prefixes once.
//!
//! A compressed tree of the prompts in flight, keyed by local hashes like the
//! index. An edge counts, for each holder, the requests in flight whose prompt
//! runs through it; its blocks are active there while the count lasts. Entering
//! and leaving cost a comparison of the prompt with the edges it shares and one
//! copy of what it does not share, whatever the number of blocks: a counted hash
//! map of sequence hashes, which the same figures could come from, costs a
//! probe a block and was rejected (2,000 blocks: 40 µs and more, on the way of
//! every decision). The index itself can not serve: it counts copies of blocks,
//! at 150 ns a block.

use hashbrown::HashMap;
use warmpath_radix::Holder;

/// Where a prompt ends in the tree; stays valid until the prompt leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Leaf(u32);

const ROOT: u32 = u32::MAX;

#[derive(Debug, Default)]
struct Edge {
    parent: u32,
    hashes: Vec<u64>,
    /// Requests in flight through here, by holder; empty only in a free slot.
    holders: Vec<(Holder, u32)>,
}

/// The prompts in flight of all holders.
#[derive(Debug, Default)]
pub(super) struct Active {
    edges: Vec<Edge>,
    free: Vec<u32>,
    /// The edge below a parent that begins with a hash.
    below: HashMap<(u32, u64), u32>,
    /// Active blocks of each holder that has any.
    active: HashMap<Holder, usize>,
    blocks: usize,
}

impl Active {
    /// Blocks in the tree, each once however many holders use it.
    pub(super) fn blocks(&self) -> usize {
        self.blocks
    }

    /// Blocks that are active at a holder.
    pub(super) fn at(&self, holder: Holder) -> usize {
        self.active.get(&holder).copied().unwrap_or(0)
    }

    /// Enters a prompt; says where it ends, and how many of its blocks are
    /// newly active at the holder. An empty prompt has no place.
    pub(super) fn enter(&mut self, holder: Holder, prompt: &[u64]) -> Option<(Leaf, usize)> {
        let mut rest = prompt;
        let mut at = ROOT;
        let mut new = 0;
        while let [first, ..] = rest {
            let next = match self.below.get(&(at, *first)) {
                Some(&next) => {
                    let shared = shared(&self.edges[next as usize].hashes, rest);
                    if shared < self.edges[next as usize].hashes.len() {
                        self.split(next, shared)
                    } else {
                        next
                    }
                }
                None => self.add(at, rest.to_vec()),
            };
            let edge = &mut self.edges[next as usize];
            match edge.holders.iter_mut().find(|(known, _)| *known == holder) {
                Some((_, count)) => *count += 1,
                None => {
                    edge.holders.push((holder, 1));
                    new += edge.hashes.len();
                }
            }
            rest = &rest[edge.hashes.len()..];
            at = next;
        }
        if new > 0 {
            *self.active.entry(holder).or_default() += new;
        }
        (at != ROOT).then_some((Leaf(at), new))
    }

    /// Takes a prompt out again; says how many blocks are no longer active at
    /// the holder.
    pub(super) fn leave(&mut self, holder: Holder, leaf: Leaf) -> usize {
        let mut at = leaf.0;
        let mut gone = 0;
        while at != ROOT {
            let edge = &mut self.edges[at as usize];
            let parent = edge.parent;
            if let Some(found) = edge.holders.iter().position(|(known, _)| *known == holder) {
                edge.holders[found].1 -= 1;
                if edge.holders[found].1 == 0 {
                    edge.holders.swap_remove(found);
                    gone += edge.hashes.len();
                }
            }
            if edge.holders.is_empty() {
                let hashes = std::mem::take(&mut edge.hashes);
                self.blocks -= hashes.len();
                self.below.remove(&(parent, hashes[0]));
                self.free.push(at);
            }
            at = parent;
        }
        if let Some(active) = self.active.get_mut(&holder) {
            *active -= gone;
            if *active == 0 {
                self.active.remove(&holder);
            }
        }
        gone
    }

    /// How many leading blocks of a prompt are active at each holder that has
    /// the first one active, and how many requests use them there; a later call
    /// for a holder is about more blocks than an earlier one.
    pub(super) fn matches(&self, prompt: &[u64], mut found: impl FnMut(Holder, u32, u32)) {
        let mut rest = prompt;
        let mut at = ROOT;
        while let [first, ..] = rest {
            let Some(&next) = self.below.get(&(at, *first)) else { return };
            let edge = &self.edges[next as usize];
            let shared = shared(&edge.hashes, rest);
            let depth = u32::try_from(prompt.len() - rest.len() + shared).unwrap_or(u32::MAX);
            edge.holders.iter().for_each(|(holder, uses)| found(*holder, depth, *uses));
            if shared < edge.hashes.len() {
                return;
            }
            rest = &rest[shared..];
            at = next;
        }
    }

    /// Cuts an edge in two; leaves name the lower part, so that keeps its
    /// number. Says the upper part's.
    fn split(&mut self, lower: u32, at: usize) -> u32 {
        let edge = &mut self.edges[lower as usize];
        let tail = edge.hashes.split_off(at);
        let head = std::mem::replace(&mut edge.hashes, tail);
        let (parent, holders, below) = (edge.parent, edge.holders.clone(), edge.hashes[0]);
        self.blocks -= head.len();
        let upper = self.add(parent, head);
        self.edges[upper as usize].holders = holders;
        self.edges[lower as usize].parent = upper;
        self.below.insert((upper, below), lower);
        upper
    }

    fn add(&mut self, parent: u32, hashes: Vec<u64>) -> u32 {
        self.blocks += hashes.len();
        let first = hashes[0];
        let edge = Edge { parent, hashes, holders: Vec::new() };
        let at = match self.free.pop() {
            Some(at) => {
                self.edges[at as usize] = edge;
                at
            }
            None => {
                self.edges.push(edge);
                u32::try_from(self.edges.len() - 1).unwrap_or(ROOT)
            }
        };
        self.below.insert((parent, first), at);
        at
    }
}

fn shared(a: &[u64], b: &[u64]) -> usize {
    let most = a.len().min(b.len());
    // Whole prompts are mostly equal or not: one comparison of memory decides.
    if a[..most] == b[..most] {
        return most;
    }
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;
    use warmpath_radix::WorkerId;

    use super::*;

    fn holder(worker: u32) -> Holder {
        Holder { worker: WorkerId(worker), rank: 0 }
    }

    fn matches(active: &Active, prompt: &[u64]) -> BTreeMap<Holder, u32> {
        let mut all = BTreeMap::new();
        active.matches(prompt, |holder, blocks, _| {
            all.insert(holder, blocks);
        });
        all
    }

    #[test]
    fn shared_prefixes_count_once() {
        let mut active = Active::default();
        let (a, new) = active.enter(holder(0), &[1, 2, 3]).unwrap();
        assert_eq!(new, 3);
        let (b, new) = active.enter(holder(0), &[1, 2, 4]).unwrap();
        assert_eq!(new, 1);
        let (c, new) = active.enter(holder(1), &[1, 2]).unwrap();
        assert_eq!((new, active.blocks()), (2, 4));
        assert_eq!(matches(&active, &[1, 2, 4, 9]), [(holder(0), 3), (holder(1), 2)].into());
        assert_eq!(active.leave(holder(0), a), 1);
        assert_eq!(active.leave(holder(0), b), 3);
        assert_eq!(active.leave(holder(1), c), 2);
        assert_eq!((active.blocks(), active.below.len()), (0, 0));
    }

    #[test]
    fn an_empty_prompt_has_no_place() {
        assert_eq!(Active::default().enter(holder(0), &[]), None);
    }

    /// Every prompt in flight, and nothing else.
    #[derive(Default)]
    struct Naive(Vec<(Holder, Vec<u64>)>);

    impl Naive {
        fn active(&self, holder: Holder) -> BTreeSet<Vec<u64>> {
            let own = self.0.iter().filter(|(one, _)| *one == holder);
            own.flat_map(|(_, prompt)| (1..=prompt.len()).map(|end| prompt[..end].to_vec()))
                .collect()
        }
    }

    proptest! {
        #[test]
        fn any_history_agrees_with_a_set_of_prefixes(
            steps in prop::collection::vec(
                (0_u32..3, prop::collection::vec(0_u64..3, 1..6), any::<prop::sample::Index>(), any::<bool>()),
                1..60,
            ),
        ) {
            let mut active = Active::default();
            let mut naive = Naive::default();
            let mut leaves: Vec<Leaf> = Vec::new();
            for (worker, prompt, which, leaves_now) in steps {
                let before: Vec<_> = (0..3).map(|w| naive.active(holder(w)).len()).collect();
                if leaves_now && !leaves.is_empty() {
                    let at = which.index(leaves.len());
                    let (holder, _) = naive.0.remove(at);
                    let gone = active.leave(holder, leaves.remove(at));
                    let was = before[holder.worker.0 as usize];
                    prop_assert_eq!(active.at(holder), naive.active(holder).len());
                    prop_assert_eq!(gone, was - naive.active(holder).len());
                } else {
                    let (leaf, new) = active.enter(holder(worker), &prompt).unwrap();
                    naive.0.push((holder(worker), prompt.clone()));
                    leaves.push(leaf);
                    let was = before[worker as usize];
                    prop_assert_eq!(new, naive.active(holder(worker)).len() - was);
                }
                let found = matches(&active, &prompt);
                for worker in 0..3 {
                    let own = naive.active(holder(worker));
                    let naive = (1..=prompt.len()).take_while(|end| own.contains(&prompt[..*end])).count();
                    prop_assert_eq!(found.get(&holder(worker)).copied().unwrap_or(0) as usize, naive);
                }
            }
            for (holder, leaf) in naive.0.iter().map(|(holder, _)| *holder).zip(leaves) {
                active.leave(holder, leaf);
            }
            prop_assert_eq!((active.blocks(), active.below.len()), (0, 0));
            prop_assert_eq!(active.free.len(), active.edges.len());
        }
    }
}
