//! The compressed tree: how chains are laid down, split, cut back and merged.
//!
//! Nobody's engine hash is known here; holders have blocks, by place.

use std::ops::Range;

use crate::cover::Cover;
use crate::node::{Children, Node};
use crate::run::{NO_RUN, Place, Runs};
use crate::{Block, Holder};

/// Position of a node in the slab; the root is 0.
pub(crate) type NodeId = u32;

/// The root stands for the empty prefix. It has no blocks and is never freed.
pub(crate) const ROOT: NodeId = 0;

/// Where a store laid one block.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Put {
    pub(crate) place: Place,
    /// The holder had it, under whatever name.
    pub(crate) had: bool,
    /// Its run is of another seed than the store.
    pub(crate) other_seed: bool,
}

#[derive(Debug)]
pub(crate) struct Tree {
    nodes: Vec<Node>,
    free: Vec<NodeId>,
    runs: Runs,
}

impl Default for Tree {
    fn default() -> Self {
        Self { nodes: vec![Node::default()], free: Vec::new(), runs: Runs::default() }
    }
}

impl Tree {
    pub(crate) fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id as usize]
    }

    fn node_mut(&mut self, id: NodeId) -> &mut Node {
        &mut self.nodes[id as usize]
    }

    /// Distinct prefixes: blocks that somebody has, and what lies above them.
    pub(crate) fn len(&self) -> usize {
        self.runs.blocks()
    }

    pub(crate) fn runs(&self) -> &Runs {
        &self.runs
    }

    pub(crate) fn locals(&self, node: &Node) -> &[u64] {
        if node.run == NO_RUN { &[] } else { self.runs.run(node.run).locals(node.start, node.len) }
    }

    /// The seed of the run that a place is in.
    pub(crate) fn seed(&self, place: Place) -> Option<u64> {
        self.runs.locate(place).map(|(run, _)| self.runs.run(run).seed)
    }

    /// Gives `holder` these blocks, behind a block that it has or from the root on;
    /// one `Put` for each.
    pub(crate) fn store(
        &mut self,
        holder: Holder,
        parent: Option<Place>,
        seed: u64,
        mut blocks: &[Block],
        puts: &mut Vec<Put>,
    ) {
        let above = parent.and_then(|place| self.runs.node(place));
        let (mut id, mut at) = above.map_or((ROOT, 0), |(id, offset)| (id, offset + 1));
        while let Some(first) = blocks.first() {
            let node = self.node(id);
            if at == node.len {
                (id, at) = match node.children.get(first.local) {
                    Some(child) => (child, 0),
                    None => self.grow(id, seed, blocks),
                };
                continue;
            }
            let ahead = &self.locals(node)[at as usize..];
            let same = ahead.iter().zip(blocks).take_while(|(a, b)| **a == b.local).count();
            if same == 0 {
                id = self.split(id, at);
                continue;
            }
            self.give(id, holder, at..at + same as u32, seed, puts);
            at += same as u32;
            blocks = &blocks[same..];
        }
    }

    /// Gives `holder` blocks of one node.
    fn give(
        &mut self,
        id: NodeId,
        holder: Holder,
        range: Range<u32>,
        seed: u64,
        puts: &mut Vec<Put>,
    ) {
        let node = &mut self.nodes[id as usize];
        let run = self.runs.run(node.run);
        let start = node.start;
        let other_seed = run.seed != seed;
        let cover = node.cover_mut(holder);
        puts.extend(range.clone().map(|at| Put {
            place: run.place(start + at),
            had: cover.has(at),
            other_seed,
        }));
        cover.set_range(range);
    }

    /// Takes a block away from `holder`, which has it.
    pub(crate) fn release(&mut self, place: Place, holder: Holder) {
        let Some((id, at)) = self.runs.node(place) else { return };
        let node = self.node_mut(id);
        let Ok(position) = node.position(holder) else { return };
        let cover = &mut node.covers[position];
        cover.clear(at);
        if cover.is_empty() {
            node.covers.remove(position);
        }
        if at + 1 == node.len {
            self.trim(id);
        }
    }

    /// Takes all blocks of the node of `place` away from `holder`.
    ///
    /// For a holder that loses everything: called with all its places, it need not
    /// mind that an earlier call may have freed this one.
    pub(crate) fn release_node(&mut self, place: Place, holder: Holder) {
        let Some((id, _)) = self.runs.node(place) else { return };
        let node = self.node_mut(id);
        if let Ok(position) = node.position(holder) {
            node.covers.remove(position);
            self.trim(id);
        }
    }

    /// Lays the blocks down below or behind `id`, of which none goes on with the
    /// first; the node and the offset where they begin.
    fn grow(&mut self, id: NodeId, seed: u64, blocks: &[Block]) -> (NodeId, u32) {
        let locals = blocks.iter().map(|block| block.local);
        let node = self.node(id);
        let (run, start, leaf) = (node.run, node.end(), node.children.is_empty());
        let goes_on = run != NO_RUN && {
            let run = self.runs.run(run);
            run.len() == start && run.seed == seed
        };
        if goes_on && leaf {
            self.runs.append(run, locals);
            let node = self.node_mut(id);
            let at = node.len;
            node.len += blocks.len() as u32;
            return (id, at);
        }
        let (run, start) = if goes_on { (run, start) } else { (self.runs.add(seed), 0) };
        self.runs.append(run, locals);
        let len = blocks.len() as u32;
        let child = self.add(Node { run, start, len, parent: id, ..Node::default() });
        self.runs.run_mut(run).cut(start, child);
        self.node_mut(id).children.insert(blocks[0].local, child);
        (child, 0)
    }

    fn add(&mut self, node: Node) -> NodeId {
        if let Some(id) = self.free.pop() {
            self.nodes[id as usize] = node;
            return id;
        }
        self.nodes.push(node);
        (self.nodes.len() - 1) as NodeId
    }

    /// Cuts a node in two before the block at `at`; the upper one. The lower keeps
    /// the number, so that what hangs below need not learn a new one.
    fn split(&mut self, id: NodeId, at: u32) -> NodeId {
        let first = self.locals(self.node(id))[0];
        let next = self.locals(self.node(id))[at as usize];
        let node = self.node_mut(id);
        let (run, start, parent) = (node.run, node.start, node.parent);
        let tails = node.covers.iter_mut().map(|cover| cover.split_off(at)).collect::<Vec<_>>();
        let mut heads = std::mem::replace(&mut node.covers, tails);
        heads.retain(|cover| !cover.is_empty());
        heads.shrink_to_fit();
        node.covers.retain(|cover| !cover.is_empty());
        node.covers.shrink_to_fit();
        node.start += at;
        node.len -= at;
        let children = Children::One(next, id);
        let head = self.add(Node { run, start, len: at, parent, children, covers: heads });
        self.node_mut(id).parent = head;
        self.node_mut(parent).children.insert(first, head);
        let run = self.runs.run_mut(run);
        run.cut(start, head);
        run.cut(start + at, id);
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
            self.runs.run_mut(run).heal(start);
            self.runs.truncate(run, start);
            *self.node_mut(id) = Node::default();
            self.free.push(id);
            self.node_mut(parent).children.remove(first);
            id = parent;
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
        self.free.push(id);
        let node = self.node_mut(child);
        let tails = std::mem::replace(&mut node.covers, head.covers);
        (node.start, node.parent) = (head.start, head.parent);
        node.len += head.len;
        for tail in &tails {
            node.cover_mut(tail.holder).append(head.len, tail);
        }
        self.node_mut(head.parent).children.insert(first, child);
        let run = self.runs.run_mut(run);
        run.heal(start);
        run.cut(head.start, child);
    }

    /// Every node that can be reached from the root, and whether they are all, in
    /// order, and none without need.
    pub(crate) fn reachable(&self) -> Result<Vec<NodeId>, String> {
        self.runs.audit()?;
        let (mut found, mut blocks) = (Vec::new(), 0);
        let mut pending = vec![ROOT];
        while let Some(id) = pending.pop() {
            let above = self.node(id);
            if let Some(child) = above.children.only()
                && (self.node(child).run, self.node(child).start) == (above.run, above.end())
            {
                return Err(format!("nodes {id} and {child} are not merged"));
            }
            for (first, child) in above.children.iter() {
                let node = self.node(child);
                if node.parent != id || self.locals(node).first() != Some(&first) {
                    return Err(format!("node {child} does not know its parent {id}"));
                }
                if !self.runs.run(node.run).cuts().contains(&(node.start, child)) {
                    return Err(format!("the run of node {child} does not know it"));
                }
                let end = node.held_end();
                if end > node.len || (node.children.is_empty() && end < node.len) {
                    return Err(format!("node {child} has {} blocks, {end} held", node.len));
                }
                let normal = |cover: &Cover| cover.is_normal() && !cover.is_empty();
                if !node.covers.iter().all(normal)
                    || !node.covers.is_sorted_by(|a, b| a.holder < b.holder)
                {
                    return Err(format!("the holders of node {child} are out of order"));
                }
                blocks += node.len as usize;
                found.push(child);
                pending.push(child);
            }
        }
        if blocks != self.len() || found.len() + self.free.len() + 1 != self.nodes.len() {
            return Err(format!("{} blocks in the tree, {blocks} reachable", self.len()));
        }
        Ok(found)
    }
}
