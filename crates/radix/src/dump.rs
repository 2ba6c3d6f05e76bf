//! What a holder has, written out as chains: parents before what hangs on them.
//!
//! The holder's own events wait while its names and their places are read; the tree is
//! asked for a few hundred blocks at a time, so that nobody else does. What is told of
//! one holder was so at one moment; two holders may be told of at different moments.

use hashbrown::HashMap;

use crate::held::Held;
use crate::index::Index;
use crate::lane::Named;
use crate::run::Place;
use crate::{Block, EngineHash, Holder, Tier};

/// Blocks that are looked up before writers get their turn.
const TURN: usize = 256;

/// A chain that a holder has, as the event that would store it.
#[derive(Clone, Eq, PartialEq, Debug)]
pub struct Chain {
    /// Where.
    pub tier: Tier,
    /// The block before, which an earlier chain of the same holder has; none at the
    /// start of a prompt.
    pub parent: Option<EngineHash>,
    /// Blocks before it.
    pub start: u32,
    /// Its blocks.
    pub blocks: Vec<Block>,
}

/// A block with what is above it, whether the holder has it or not.
#[derive(Clone, Debug)]
pub(crate) struct Piece {
    pub(crate) place: Place,
    pub(crate) local: u64,
    /// Of the run.
    pub(crate) seed: u64,
    above: Option<Place>,
}

/// Pieces one below the other.
#[derive(Debug)]
pub(crate) struct Path {
    /// The piece above the first, which is in an earlier path.
    pub(crate) above: Option<Place>,
    /// Blocks above the first.
    pub(crate) depth: u32,
    pub(crate) pieces: Vec<Piece>,
}

/// One tier of a holder.
#[derive(Debug)]
pub(crate) struct Layout {
    pub(crate) paths: Vec<Path>,
    /// The names of each held place; what is not here lies between.
    pub(crate) names: HashMap<Place, Vec<Named>>,
}

impl Index {
    /// The holders that have anything, in order.
    pub fn holders(&self) -> Vec<Holder> {
        self.holders.read().keys().copied().collect()
    }

    /// What a holder has, as events that would store it: parents first, of each block
    /// one name. Blocks behind a hole are left out, since no event could place them.
    pub fn dump(&self, holder: Holder) -> Vec<Chain> {
        let (mut chains, mut told) = (Vec::new(), HashMap::new());
        for (tier, layout) in Tier::ALL.into_iter().zip(self.layouts(holder)) {
            for path in &layout.paths {
                path.tell(tier, &layout.names, &mut told, &mut chains);
            }
        }
        chains
    }

    /// The tiers of a holder at one moment.
    pub(crate) fn layouts(&self, holder: Holder) -> Vec<Layout> {
        let all = |held: &mut Held| Tier::ALL.map(|tier| self.layout(held, tier));
        self.with(holder, all).map_or_else(Vec::new, Vec::from)
    }

    fn layout(&self, held: &Held, tier: Tier) -> Layout {
        let mut names: HashMap<Place, Vec<Named>> = HashMap::new();
        for (named, place) in held.lane(tier).described() {
            names.entry(place).or_default().push(named);
        }
        let mut pieces: HashMap<Place, Piece> = HashMap::with_capacity(names.len());
        // In order: neighbours lie together.
        let mut pending: Vec<Place> = names.keys().copied().collect();
        pending.sort_unstable();
        let mut order = Vec::with_capacity(pending.len());
        while !pending.is_empty() {
            let mut above = Vec::new();
            for places in pending.chunks(TURN) {
                let tree = self.core.tree.read();
                for &place in places {
                    let Some(piece) = tree.piece(place) else { continue };
                    above.extend(piece.above);
                    order.push(place);
                    pieces.insert(place, piece);
                }
            }
            above.sort_unstable();
            above.dedup();
            above.retain(|place| !pieces.contains_key(place));
            pending = above;
        }
        Layout { paths: paths(&order, pieces), names }
    }
}

/// Cuts the pieces into paths, each below an earlier one or the root.
fn paths(order: &[Place], mut pieces: HashMap<Place, Piece>) -> Vec<Path> {
    let (mut depths, mut paths) = (HashMap::new(), Vec::new());
    // From the end: whoever comes last in a chain brings all of it along.
    for &place in order.iter().rev() {
        let (mut path, mut at) = (Vec::new(), Some(place));
        while let Some(place) = at
            && let Some(piece) = pieces.remove(&place)
        {
            at = piece.above;
            path.push(piece);
        }
        if path.is_empty() {
            continue;
        }
        path.reverse();
        let depth = at.map_or(0, |above| depths.get(&above).map_or(0, |depth| depth + 1));
        depths.extend(path.iter().zip(depth..).map(|(piece, depth)| (piece.place, depth)));
        paths.push(Path { above: at, depth, pieces: path });
    }
    paths
}

impl Path {
    /// Adds the stretches of it whose parents were told of, by any tier.
    fn tell(
        &self,
        tier: Tier,
        names: &HashMap<Place, Vec<Named>>,
        told: &mut HashMap<Place, EngineHash>,
        chains: &mut Vec<Chain>,
    ) {
        let mut above = self.above;
        let mut open: Option<Chain> = None;
        for (piece, start) in self.pieces.iter().zip(self.depth..) {
            let name = names.get(&piece.place).and_then(|names| names.first());
            let parent = above.map(|above| told.get(&above).copied());
            above = Some(piece.place);
            let (Some(name), None | Some(Some(_))) = (name, parent) else {
                chains.extend(open.take());
                continue;
            };
            told.entry(piece.place).or_insert(name.engine);
            let chain = open.get_or_insert_with(|| Chain {
                tier,
                parent: parent.flatten(),
                start,
                blocks: Vec::new(),
            });
            chain.blocks.push(Block { local: piece.local, engine: name.engine });
        }
        chains.extend(open);
    }
}

impl crate::tree::Tree {
    /// A block and what is above it.
    fn piece(&self, place: Place) -> Option<Piece> {
        let (run, at) = self.runs().locate(place)?;
        let run = self.runs().run(run);
        let above = match at.checked_sub(1) {
            Some(before) => Some(run.place(before)),
            None => {
                let (id, _) = self.runs().node(place)?;
                let parent = self.node(self.node(id).parent);
                let before = parent.end().checked_sub(1);
                before.map(|last| self.runs().run(parent.run).place(last))
            }
        };
        let local = *run.locals(at, 1).first()?;
        Some(Piece { place, local, seed: run.seed.unwrap_or_default(), above })
    }
}
