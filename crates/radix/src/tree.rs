//! The nodes: a slab, children by local hash, and per node who holds it.

use hashbrown::HashMap;

use crate::Holder;

/// Position of a node in the slab; the root is 0.
pub(crate) type NodeId = u32;

/// The root stands for the empty prefix. It is held by nobody and never freed.
pub(crate) const ROOT: NodeId = 0;

#[derive(Debug, Default)]
pub(crate) struct Node {
    pub(crate) parent: NodeId,
    pub(crate) local: u64,
    pub(crate) children: HashMap<u64, NodeId>,
    /// Who holds the block and by how many engine hashes; sorted by holder. Most
    /// blocks have one holder, a shared system prompt has them all, and a scan in
    /// order serves both.
    holders: Vec<(Holder, u32)>,
}

impl Node {
    pub(crate) fn holders(&self) -> &[(Holder, u32)] {
        &self.holders
    }

    pub(crate) fn is_held_by(&self, holder: Holder) -> bool {
        self.position(holder).is_ok()
    }

    fn position(&self, holder: Holder) -> Result<usize, usize> {
        self.holders.binary_search_by_key(&holder, |&(held_by, _)| held_by)
    }
}

#[derive(Debug)]
pub(crate) struct Tree {
    nodes: Vec<Node>,
    free: Vec<NodeId>,
}

impl Default for Tree {
    fn default() -> Self {
        Self { nodes: vec![Node::default()], free: Vec::new() }
    }
}

impl Tree {
    pub(crate) fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id as usize]
    }

    fn node_mut(&mut self, id: NodeId) -> &mut Node {
        &mut self.nodes[id as usize]
    }

    /// Nodes in use, the root not counted.
    pub(crate) fn len(&self) -> usize {
        self.nodes.len() - 1 - self.free.len()
    }

    pub(crate) fn child(&self, parent: NodeId, local: u64) -> Option<NodeId> {
        self.node(parent).children.get(&local).copied()
    }

    pub(crate) fn child_or_insert(&mut self, parent: NodeId, local: u64) -> NodeId {
        if let Some(child) = self.child(parent, local) {
            return child;
        }
        let node = Node { parent, local, ..Node::default() };
        let id = match self.free.pop() {
            Some(id) => {
                *self.node_mut(id) = node;
                id
            }
            None => {
                let id = NodeId::try_from(self.nodes.len()).expect("fewer than 2^32 nodes");
                self.nodes.push(node);
                id
            }
        };
        self.node_mut(parent).children.insert(local, id);
        id
    }

    /// One more engine hash of `holder` names the node; true if it is the first.
    pub(crate) fn hold(&mut self, id: NodeId, holder: Holder) -> bool {
        let node = self.node_mut(id);
        match node.position(holder) {
            Ok(at) => {
                node.holders[at].1 += 1;
                false
            }
            Err(at) => {
                node.holders.insert(at, (holder, 1));
                true
            }
        }
    }

    /// One engine hash of `holder` fewer names the node; true if it was the last.
    pub(crate) fn release(&mut self, id: NodeId, holder: Holder) -> bool {
        let node = self.node_mut(id);
        let Ok(at) = node.position(holder) else { return false };
        node.holders[at].1 -= 1;
        let last = node.holders[at].1 == 0;
        if last {
            node.holders.remove(at);
            self.prune(id);
        }
        last
    }

    /// Frees the node and its ancestors as far as nobody needs them.
    fn prune(&mut self, mut id: NodeId) {
        while id != ROOT {
            let node = self.node(id);
            if !node.holders.is_empty() || !node.children.is_empty() {
                return;
            }
            let (parent, local) = (node.parent, node.local);
            *self.node_mut(id) = Node::default();
            self.free.push(id);
            self.node_mut(parent).children.remove(&local);
            id = parent;
        }
    }

    /// Every node that can be reached from the root, and whether that is all.
    pub(crate) fn reachable(&self) -> Result<Vec<NodeId>, String> {
        let mut found = Vec::with_capacity(self.len());
        let mut pending = vec![ROOT];
        while let Some(id) = pending.pop() {
            for (&local, &child) in &self.node(id).children {
                let node = self.node(child);
                if node.parent != id || node.local != local {
                    return Err(format!("node {child} does not know its parent {id}"));
                }
                if node.holders.is_empty() && node.children.is_empty() {
                    return Err(format!("node {child} is needed by nobody and was not freed"));
                }
                if node.holders.iter().any(|&(_, names)| names == 0)
                    || !node.holders.is_sorted_by(|a, b| a.0 < b.0)
                {
                    return Err(format!("the holders of node {child} are out of order"));
                }
                found.push(child);
                pending.push(child);
            }
        }
        if found.len() != self.len() {
            return Err(format!("{} nodes in use, {} reachable", self.len(), found.len()));
        }
        Ok(found)
    }
}
