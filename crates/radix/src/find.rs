//! The read path: down the tree by whole nodes, with the holders that still go on.

use crate::cover::Cover;
use crate::node::Node;
use crate::seat::PREDICTED;
use crate::tree::{ROOT, Tree};
use crate::{Holder, Match, Progress, Tier};

/// The answer to a query, kept by the caller for its memory: with one that was used
/// before, a query allocates nothing.
#[derive(Debug, Default)]
pub struct Matches {
    /// Sorted by number.
    found: Vec<Found>,
}

#[derive(Copy, Clone, Debug)]
struct Found {
    number: u32,
    found: Match,
}

impl Matches {
    /// Room for the first answer comes with it.
    pub fn new() -> Self {
        Self::default()
    }

    /// Every holder of at least the first block, in no particular order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Match> {
        self.found.iter().map(|found| found.found)
    }

    /// How many holders there are.
    pub fn len(&self) -> usize {
        self.found.len()
    }

    /// Whether nobody has the first block.
    pub fn is_empty(&self) -> bool {
        self.found.is_empty()
    }
}

impl Tree {
    /// Follows `local` down as far as somebody has it all and `enough` says no.
    pub(crate) fn find(
        &self,
        local: &[u64],
        mut enough: impl FnMut(Progress) -> bool,
        matches: &mut Matches,
    ) {
        matches.found.clear();
        let (mut id, mut depth) = (ROOT, 0_usize);
        while let Some(child) = local.get(depth).and_then(|&next| self.node(id).child(next)) {
            id = child.node;
            let node = self.node(id);
            let run = self.runs().run(child.run);
            let same = run.leading(node.start, node.len, &local[depth..]);
            node.touch(self.now());
            let above = depth as u32;
            depth += same;
            let holders = match above {
                0 => self.begin(node, same as u32, &mut matches.found),
                _ => go_on(node, above, same as u32, &mut matches.found),
            };
            let progress = Progress { blocks: depth as u32, holders };
            if holders == 0 || same < node.len as usize || enough(progress) {
                break;
            }
        }
    }

    /// The holders of the first node, and how many of them have all `same` blocks.
    fn begin(&self, node: &Node, same: u32, found: &mut Vec<Found>) -> usize {
        let mut going = 0;
        found.reserve(node.covers.len());
        for covers in node.covers.chunk_by(|a, b| a.seat.number() == b.seat.number()) {
            let number = covers[0].seat.number();
            let Some(holder) = self.numbers.holder(number) else { continue };
            let mut next = Found { number, found: nothing(holder) };
            going += usize::from(extend(&mut next.found, covers, 0, same));
            if next.found.disk.max(next.found.predicted) > 0 {
                found.push(next);
            }
        }
        going
    }
}

fn nothing(holder: Holder) -> Match {
    Match { holder, blocks: 0, host: 0, disk: 0, predicted: 0 }
}

/// The same for a node behind `above` blocks, for those that were found before.
fn go_on(node: &Node, above: u32, same: u32, found: &mut [Found]) -> usize {
    let (mut behind, mut going) = (found, 0);
    for covers in node.covers.chunk_by(|a, b| a.seat.number() == b.seat.number()) {
        let number = covers[0].seat.number();
        // The same holders in the same order, mostly.
        let at = match behind.first() {
            Some(first) if first.number == number => 0,
            _ => behind.partition_point(|found| found.number < number),
        };
        behind = &mut behind[at..];
        let Some(next) = behind.first_mut() else { break };
        if next.number == number {
            going += usize::from(extend(&mut next.found, covers, above, same));
        }
    }
    going
}

/// Adds what one holder has of the `same` blocks behind `above`; whether any of its
/// counts goes on behind them.
fn extend(found: &mut Match, covers: &[Cover], above: u32, same: u32) -> bool {
    let end = above + same;
    if let [cover] = covers
        && cover.seat.kind() == Tier::Device as u32
        && [found.blocks, found.host, found.disk, found.predicted] == [above; 4]
    {
        let reach = above + cover.lead().min(same);
        (found.blocks, found.host, found.disk, found.predicted) = (reach, reach, reach, reach);
        return reach == end;
    }
    let hole = |kind: u32, from: u32| {
        let cover = covers.iter().find(|cover| cover.seat.kind() == kind);
        cover.map_or(from, |cover| cover.hole(from).min(same))
    };
    let [device, host, disk] = Tier::ALL.map(|tier| tier as u32);
    if found.blocks == above {
        found.blocks = above + hole(device, 0);
    }
    // Each tier begins where the faster one ends, in this node or above it.
    if found.host == above {
        found.host = above + hole(host, found.blocks.saturating_sub(above));
    }
    if found.disk == above {
        found.disk = above + hole(disk, found.host.saturating_sub(above));
    }
    if found.predicted == above {
        let mut reach = 0;
        loop {
            let next = hole(PREDICTED, hole(device, reach));
            if next == reach {
                break;
            }
            reach = next;
        }
        found.predicted = above + reach;
    }
    [found.blocks, found.host, found.disk, found.predicted].contains(&end)
}
