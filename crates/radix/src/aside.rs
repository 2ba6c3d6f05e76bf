//! Chains that came before their parent.
//!
//! An event may be lost or come late. The chains behind it are kept for a while and
//! laid down when their parent arrives; what is dropped instead is counted.

use std::collections::VecDeque;

use crate::{Block, EngineHash, Tier};

/// Blocks and chains that wait at most, of one holder.
const BLOCKS: usize = 8192;
const CHAINS: usize = 128;

/// A chain whose parent its holder does not have.
#[derive(Debug)]
pub(crate) struct Orphan {
    pub(crate) tier: Tier,
    pub(crate) parent: EngineHash,
    pub(crate) seed: u64,
    pub(crate) blocks: Vec<Block>,
    /// Names of it that were removed meanwhile, one for each copy.
    pub(crate) gone: Vec<EngineHash>,
}

impl Orphan {
    pub(crate) fn waiting(&self) -> usize {
        self.blocks.len() - self.gone.len()
    }

    fn heap(&self) -> usize {
        self.blocks.capacity() * size_of::<Block>() + self.gone.capacity() * size_of::<EngineHash>()
    }
}

/// The orphans of one holder, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Aside {
    chains: VecDeque<Orphan>,
    blocks: usize,
    bytes: usize,
}

impl Aside {
    pub(crate) fn is_empty(&self) -> bool {
        self.chains.is_empty()
    }

    /// Blocks that wait.
    pub(crate) fn blocks(&self) -> usize {
        self.chains.iter().map(Orphan::waiting).sum()
    }

    pub(crate) fn heap(&self) -> usize {
        self.bytes + self.chains.capacity() * size_of::<Orphan>()
    }

    /// Keeps a chain; how many waiting blocks had to go for it, its own if it is too
    /// long.
    pub(crate) fn add(&mut self, orphan: Orphan) -> usize {
        if orphan.blocks.len() > BLOCKS {
            return orphan.blocks.len();
        }
        self.blocks += orphan.blocks.len();
        self.bytes += orphan.heap();
        self.chains.push_back(orphan);
        let mut lost = 0;
        while self.blocks > BLOCKS || self.chains.len() > CHAINS {
            lost += self.take(0).map_or(0, |oldest| oldest.waiting());
        }
        lost
    }

    /// The oldest chain whose parent is there.
    pub(crate) fn ready(&mut self, is_held: impl Fn(EngineHash) -> bool) -> Option<Orphan> {
        let at = self.chains.iter().position(|orphan| is_held(orphan.parent))?;
        self.take(at)
    }

    /// Takes a copy of a block away that waits on that tier; whether there was one.
    pub(crate) fn remove(&mut self, tier: Tier, engine: EngineHash) -> bool {
        let count = |names: &mut dyn Iterator<Item = EngineHash>| {
            names.filter(|&name| name == engine).count()
        };
        let found = self.chains.iter().rposition(|orphan| {
            orphan.tier == tier
                && count(&mut orphan.blocks.iter().map(|block| block.engine))
                    > count(&mut orphan.gone.iter().copied())
        });
        let Some(at) = found else { return false };
        let orphan = &mut self.chains[at];
        self.bytes -= orphan.heap();
        orphan.gone.push(engine);
        self.bytes += orphan.heap();
        if orphan.waiting() == 0 {
            self.take(at);
        }
        true
    }

    fn take(&mut self, at: usize) -> Option<Orphan> {
        let orphan = self.chains.remove(at)?;
        self.blocks -= orphan.blocks.len();
        self.bytes -= orphan.heap();
        if self.chains.is_empty() {
            self.chains = VecDeque::new();
        }
        Some(orphan)
    }
}
