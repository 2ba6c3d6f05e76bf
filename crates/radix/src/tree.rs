//! The compressed tree: how chains are laid down, split, cut back and merged.
//!
//! Nobody's engine hash is known here; seats have blocks, by place.

use std::ops::Range;

use hashbrown::HashSet;

use crate::cover::Cover;
use crate::node::{Child, Children, Covers, Node};
use crate::run::{CHUNK, NO_RUN, Place, Runs};
use crate::seat::{Numbers, PREDICTED, Seat};
use crate::slab::Slab;
use crate::{Block, Tier};

/// Position of a node in the slab; the root is 0.
pub(crate) type NodeId = u32;

/// The root stands for the empty prefix. It has no blocks and is never freed.
pub(crate) const ROOT: NodeId = 0;

/// Stores between two ticks of the clock that stamps nodes.
const TICK: u32 = 64;

/// Where a store laid up to `CHUNK` blocks: at consecutive places.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Laid {
    pub(crate) place: Place,
    pub(crate) len: u32,
    /// Which of them the seat had, under whatever name; the first is the lowest bit.
    pub(crate) had: u32,
    /// Their run is of another seed than the store.
    pub(crate) other_seed: bool,
}

#[derive(Debug)]
pub(crate) struct Tree {
    nodes: Slab<Node>,
    runs: Runs,
    pub(crate) numbers: Numbers,
    /// Heap of the nodes' children, covers and bitmaps.
    bytes: usize,
    /// Covers that rest on predictions.
    predicted: usize,
    stores: u32,
}

impl Default for Tree {
    fn default() -> Self {
        let mut nodes = Slab::default();
        nodes.insert(Node::default());
        Self {
            nodes,
            runs: Runs::default(),
            numbers: Numbers::default(),
            bytes: 0,
            predicted: 0,
            stores: 0,
        }
    }
}

impl Tree {
    pub(crate) fn node(&self, id: NodeId) -> &Node {
        self.nodes.get(id)
    }

    fn node_mut(&mut self, id: NodeId) -> &mut Node {
        self.nodes.get_mut(id)
    }

    /// Distinct prefixes: blocks that somebody has, and what lies above them.
    pub(crate) fn len(&self) -> usize {
        self.runs.blocks()
    }

    pub(crate) fn runs(&self) -> &Runs {
        &self.runs
    }

    /// Heap in bytes.
    pub(crate) fn heap(&self) -> usize {
        self.nodes.heap() + self.runs.heap() + self.numbers.heap() + self.bytes
    }

    /// The time by which nodes are stamped.
    pub(crate) fn now(&self) -> u32 {
        self.stores / TICK
    }

    pub(crate) fn locals(&self, node: &Node) -> &[u64] {
        if node.run == NO_RUN { &[] } else { self.runs.run(node.run).locals(node.start, node.len) }
    }

    /// The seed of the run that a place is in.
    pub(crate) fn seed(&self, place: Place) -> Option<u64> {
        self.runs.locate(place).and_then(|(run, _)| self.runs.run(run).seed)
    }

    /// Gives `seat` these blocks, behind a block that its holder has or from the root
    /// on, and says where they are.
    ///
    /// Without a seed where it is not known, as for predictions. `ahead` blocks follow with
    /// the next calls.
    pub(crate) fn store(
        &mut self,
        seat: Seat,
        parent: Option<Place>,
        seed: Option<u64>,
        mut blocks: &[Block],
        ahead: usize,
        laid: &mut Vec<Laid>,
    ) {
        self.stores = self.stores.wrapping_add(1);
        let above = parent.and_then(|place| self.runs.node(place));
        let (mut id, mut at) = above.map_or((ROOT, 0), |(id, offset)| (id, offset + 1));
        while let Some(first) = blocks.first() {
            let node = self.node(id);
            if at == node.len {
                (id, at) = match node.child(first.local) {
                    Some(child) => (child.node, 0),
                    None => self.grow(id, seed, blocks, ahead),
                };
                continue;
            }
            let ahead = &self.locals(node)[at as usize..];
            let same = ahead.iter().zip(blocks).take_while(|(a, b)| **a == b.local).count();
            if same == 0 {
                id = self.split(id, at);
                continue;
            }
            self.give(id, seat, at..at + same as u32, seed, laid);
            at += same as u32;
            blocks = &blocks[same..];
        }
    }

    /// Gives `seat` blocks of one node; a prediction only those that the device has not.
    fn give(
        &mut self,
        id: NodeId,
        seat: Seat,
        range: Range<u32>,
        seed: Option<u64>,
        laid: &mut Vec<Laid>,
    ) {
        self.stamp(id);
        let node = self.nodes.get(id);
        let run = self.runs.run_mut(node.run);
        let other_seed = seed.is_some_and(|seed| *run.seed.get_or_insert(seed) != seed);
        let known = match seat.kind() {
            PREDICTED => node.covers.find(Seat::new(seat.number(), Tier::Device)),
            _ => node.covers.find(seat),
        };
        let mut at = range.start;
        while at < range.end {
            let len = (CHUNK - (node.start + at) % CHUNK).min(range.end - at);
            let had = known.map_or(0, |cover| cover.mask(at..at + len));
            laid.push(Laid { place: run.place(node.start + at), len, had, other_seed });
            at += len;
        }
        if seat.kind() == PREDICTED {
            let held = known.map_or(0, |cover| cover.hole(range.start).min(range.end));
            let fresh: Vec<u32> = (range.start.max(held)..range.end)
                .filter(|&at| known.is_none_or(|cover| !cover.has(at)))
                .collect();
            self.change(id, seat, |cover| {
                fresh.iter().for_each(|&at| cover.set_range(at..at + 1));
            });
            return;
        }
        self.cover(id, seat, range);
    }

    /// What was predicted of it has come then.
    fn cover(&mut self, id: NodeId, seat: Seat, range: Range<u32>) {
        self.change(id, seat, |cover| cover.set_range(range.clone()));
        if seat.kind() == Tier::Device as u32 && self.predicted > 0 {
            let predicted = Seat::predicted(seat.number());
            if self.node(id).covers.find(predicted).is_some() {
                self.change(id, predicted, |cover| cover.clear_range(range));
            }
        }
    }

    /// Gives `seat` one block that its holder has on another tier.
    pub(crate) fn hold(&mut self, seat: Seat, place: Place) -> Option<Laid> {
        let (id, at) = self.runs.node(place)?;
        let had = self.node(id).covers.find(seat).is_some_and(|cover| cover.has(at));
        self.cover(id, seat, at..at + 1);
        Some(Laid { place, len: 1, had: u32::from(had), other_seed: false })
    }

    /// Changes what `seat` has of a node; one that has nothing then is struck off.
    fn change(&mut self, id: NodeId, seat: Seat, how: impl FnOnce(&mut Cover)) {
        let node = self.nodes.get_mut(id);
        let before = node.covers.heap();
        let known = node.covers.position(seat).is_ok();
        let cover = node.covers.entry(seat);
        let bits = cover.heap();
        how(cover);
        let (empty, after) = (cover.is_empty(), cover.heap());
        if empty && let Ok(at) = node.covers.position(seat) {
            node.covers.remove(at);
        }
        self.bytes = self.bytes + node.covers.heap() + after - before - bits;
        if seat.kind() == PREDICTED {
            self.predicted = self.predicted + usize::from(!empty) - usize::from(known);
        }
    }

    /// Marks a node and those above it as used now.
    fn stamp(&self, mut id: NodeId) {
        while id != ROOT && self.node(id).touch(self.now()) {
            id = self.node(id).parent;
        }
    }

    /// Takes `len` blocks at consecutive places of one chunk away from `seat`.
    pub(crate) fn release(&mut self, seat: Seat, place: Place, len: u32) {
        let Some((run, at)) = self.runs.locate(place) else { return };
        let mut end = at + len;
        while end > at {
            let Some((id, offset)) = self.runs.node(place + (end - 1 - at)) else { return };
            let (start, len) = (self.node(id).start, self.node(id).len);
            debug_assert_eq!(self.node(id).run, run, "a chunk is one run's");
            let from = at.max(start);
            if self.node(id).covers.find(seat).is_some() {
                self.change(id, seat, |cover| cover.clear_range(from - start..offset + 1));
            }
            if offset + 1 >= len {
                self.trim(id);
            }
            end = from;
        }
    }

    /// Takes all blocks of the node of `place` away from `seat`.
    ///
    /// For a seat that loses everything: called with all its places, it need not mind
    /// that an earlier call may have freed this one.
    pub(crate) fn release_node(&mut self, seat: Seat, place: Place) {
        let Some((id, _)) = self.runs.node(place) else { return };
        if self.node(id).covers.find(seat).is_some() {
            self.change(id, seat, |cover| cover.clear_range(0..cover.end()));
            self.trim(id);
        }
    }

    /// The deepest node at or below that of a place where `seat` has blocks, by the
    /// path used least recently, and for how long it was not used.
    pub(crate) fn leaf(&self, seat: Seat, place: Place) -> Option<(u32, NodeId)> {
        let (mut id, _) = self.runs.node(place)?;
        let has = |id: NodeId| self.node(id).covers.find(seat).is_some();
        while let Some((_, below)) = self
            .node(id)
            .children()
            .map(|(_, child)| child.node)
            .filter(|&child| has(child))
            .map(|child| (self.behind(self.node(child).stamp()), child))
            .max()
        {
            id = below;
        }
        has(id).then(|| (self.behind(self.node(id).stamp()), id))
    }

    /// Adds the chunks where `seat` has blocks of a node; how many it has.
    pub(crate) fn chunks_of(&self, seat: Seat, id: NodeId, chunks: &mut HashSet<u32>) -> usize {
        let Some(node) = self.nodes.find(id) else { return 0 };
        let Some(cover) = node.covers.find(seat) else { return 0 };
        let run = self.runs.run(node.run);
        chunks.extend(cover.held().map(|at| run.place(node.start + at) / CHUNK));
        cover.held().count()
    }

    /// Lays the blocks down below or behind `id`, of which none goes on with the
    /// first; the node and the offset where they begin.
    fn grow(
        &mut self,
        id: NodeId,
        seed: Option<u64>,
        blocks: &[Block],
        ahead: usize,
    ) -> (NodeId, u32) {
        let locals = blocks.iter().map(|block| block.local);
        let node = self.node(id);
        let (run, start, leaf) = (node.run, node.end(), node.children.is_empty());
        let goes_on = run != NO_RUN && {
            let run = self.runs.run(run);
            run.len() == start && (seed.is_none() || run.seed == seed)
        };
        if goes_on && leaf {
            self.runs.append(run, locals, ahead);
            let node = self.node_mut(id);
            let at = node.len;
            node.len += blocks.len() as u32;
            return (id, at);
        }
        let (run, start) = if goes_on { (run, start) } else { (self.runs.add(seed), 0) };
        self.runs.append(run, locals, ahead);
        let len = blocks.len() as u32;
        let child = self.nodes.insert(Node { run, start, len, parent: id, ..Node::default() });
        self.runs.cut(run, start, child);
        self.adopt(id, blocks[0].local, Child { node: child, run });
        (child, 0)
    }

    /// Puts a node below another, or in the place of one that was there.
    fn adopt(&mut self, id: NodeId, local: u64, child: Child) {
        let only = self.node(id).only_run;
        self.with_children(id, |children| children.insert(local, child, only));
        // Of many it is not looked at.
        self.node_mut(id).only_run = child.run;
    }

    fn with_children<T>(&mut self, id: NodeId, how: impl FnOnce(&mut Children) -> T) -> T {
        let node = self.nodes.get_mut(id);
        let before = node.children.heap();
        let done = how(&mut node.children);
        self.bytes = self.bytes + node.children.heap() - before;
        done
    }

    /// Cuts a node in two before the block at `at`; the upper one. The lower keeps
    /// the number, so that what hangs below need not learn a new one.
    fn split(&mut self, id: NodeId, at: u32) -> NodeId {
        let first = self.locals(self.node(id))[0];
        let next = self.locals(self.node(id))[at as usize];
        let node = self.nodes.get_mut(id);
        let (before, stamp) = (node.heap(), node.stamp());
        self.predicted -= node.predicted();
        let (run, start, parent) = (node.run, node.start, node.parent);
        let tails = node.covers.iter_mut().map(|cover| cover.split_off(at)).collect::<Vec<_>>();
        let heads: Covers = std::mem::take(&mut node.covers).into_iter().collect();
        node.covers = tails.into_iter().collect();
        node.start += at;
        node.len -= at;
        let children = Children::One(next, id);
        let only_run = run;
        let after = node.heap();
        let head = Node {
            run,
            start,
            len: at,
            parent,
            children,
            covers: heads,
            only_run,
            ..Node::default()
        };
        head.touch(stamp);
        self.bytes = self.bytes + after + head.heap() - before;
        self.predicted += head.predicted() + node.predicted();
        let head = self.nodes.insert(head);
        self.node_mut(id).parent = head;
        self.adopt(parent, first, Child { node: head, run });
        self.runs.cut(run, start, head);
        self.runs.cut(run, start + at, id);
        head
    }

    /// Cuts a node back to what is held or needed by a child, frees it if that is
    /// nothing, and goes on with the node above.
    fn trim(&mut self, mut id: NodeId) {
        while id != ROOT {
            let node = self.node(id);
            if !node.children.is_empty() {
                self.merge(id);
                return;
            }
            if node.covers.iter().any(|cover| cover.end() == node.len) {
                return;
            }
            let end = node.held_end();
            let (run, start, parent) = (node.run, node.start, node.parent);
            if end > 0 {
                self.node_mut(id).len = end;
                self.runs.truncate(run, start + end);
                return;
            }
            let first = self.locals(node)[0];
            self.bytes -= node.heap();
            self.runs.heal(run, start);
            self.runs.truncate(run, start);
            self.nodes.remove(id);
            if let Some(run) = self.with_children(parent, |children| children.remove(first)) {
                self.node_mut(parent).only_run = run;
            }
            id = parent;
        }
        if self.nodes.used() == 1 {
            let root = std::mem::take(self.nodes.get_mut(ROOT));
            self.nodes = Slab::default();
            self.nodes.insert(root);
        }
    }

    /// Takes a node into its child if that is its only one and goes on in the same
    /// run: nothing parts there any more.
    fn merge(&mut self, id: NodeId) {
        let Some(child) = self.node(id).children.only() else { return };
        let (run, start) = (self.node(child).run, self.node(child).start);
        if id == ROOT || (run, start) != (self.node(id).run, self.node(id).end()) {
            return;
        }
        let first = self.locals(self.node(id))[0];
        let head = std::mem::take(self.node_mut(id));
        self.nodes.remove(id);
        let node = self.nodes.get_mut(child);
        let before = head.heap() + node.heap();
        self.predicted -= head.predicted() + node.predicted();
        node.touch(head.stamp());
        let tails = std::mem::replace(&mut node.covers, head.covers);
        (node.start, node.parent) = (head.start, head.parent);
        node.len += head.len;
        for tail in tails.iter() {
            node.covers.entry(tail.seat).append(head.len, tail);
        }
        self.predicted += node.predicted();
        self.bytes = self.bytes + node.heap() - before;
        self.adopt(head.parent, first, Child { node: child, run });
        self.runs.heal(run, start);
        self.runs.cut(run, head.start, child);
    }

    /// Every node that can be reached from the root, and whether they are all, in
    /// order, and none without need.
    pub(crate) fn reachable(&self) -> Result<Vec<NodeId>, String> {
        self.runs.audit()?;
        let (mut found, mut blocks, mut predicted) = (Vec::new(), 0, 0);
        let mut bytes = self.node(ROOT).heap();
        let mut pending = vec![ROOT];
        while let Some(id) = pending.pop() {
            let above = self.node(id);
            if let Some(child) = above.children.only()
                && (self.node(child).run, self.node(child).start) == (above.run, above.end())
            {
                return Err(format!("nodes {id} and {child} are not merged"));
            }
            for (first, Child { node: child, run }) in above.children() {
                let node = self.node(child);
                if node.parent != id || self.locals(node).first() != Some(&first) {
                    return Err(format!("node {child} does not know its parent {id}"));
                }
                if run != node.run {
                    return Err(format!("node {id} has another run for its child {child}"));
                }
                if !self.runs.knows(node.run, node.start, child) {
                    return Err(format!("the run of node {child} does not know it"));
                }
                let end = node.held_end();
                if end > node.len || (node.children.is_empty() && end < node.len) {
                    return Err(format!("node {child} has {} blocks, {end} held", node.len));
                }
                let normal = |cover: &Cover| cover.is_normal() && !cover.is_empty();
                if !node.covers.iter().all(normal)
                    || !node.covers.is_sorted_by(|a, b| a.seat < b.seat)
                {
                    return Err(format!("the holders of node {child} are out of order"));
                }
                if id != ROOT && self.behind(node.stamp()) < self.behind(above.stamp()) {
                    return Err(format!("node {child} was used later than its parent {id}"));
                }
                blocks += node.len as usize;
                predicted += node.predicted();
                bytes += node.heap();
                found.push(child);
                pending.push(child);
            }
        }
        if blocks != self.len() || found.len() + 1 != self.nodes.used() {
            return Err(format!("{} blocks in the tree, {blocks} reachable", self.len()));
        }
        if (bytes, predicted) != (self.bytes, self.predicted) {
            return Err(format!("{bytes} bytes of nodes, counted {}", self.bytes));
        }
        Ok(found)
    }

    /// Ticks since a stamp.
    fn behind(&self, stamp: u32) -> u32 {
        self.now().wrapping_sub(stamp)
    }
}
