//! The read path: down the tree by whole nodes, with the holders that still go on.

use crate::Match;
use crate::run::NO_RUN;
use crate::tree::{ROOT, Tree};

impl Tree {
    /// Every holder of at least the first of these blocks, ordered by holder.
    ///
    /// The answer is the working set: who has as many blocks as the path is deep
    /// still goes on. It is the only allocation.
    pub(crate) fn find_matches(&self, local: &[u64]) -> Vec<Match> {
        let mut matches: Vec<Match> = Vec::new();
        let (mut id, mut depth) = (ROOT, 0_usize);
        while let Some(child) = local.get(depth).and_then(|&next| self.node(id).children.get(next))
        {
            id = child;
            let node = self.node(id);
            debug_assert_ne!(node.run, NO_RUN, "only the root has no run");
            let same = leading(self.locals(node), &local[depth..]);
            let above = depth as u32;
            let credit = |lead: u32| above + lead.min(same as u32);
            depth += same;
            let mut going = 0;
            if above == 0 {
                matches.reserve_exact(node.covers.len());
                for cover in &node.covers {
                    if cover.lead() > 0 {
                        let blocks = credit(cover.lead());
                        going += usize::from(blocks as usize == depth);
                        matches.push(Match { holder: cover.holder, blocks });
                    }
                }
            } else {
                let mut behind = matches.as_mut_slice();
                for cover in &node.covers {
                    let found = behind.binary_search_by_key(&cover.holder, |found| found.holder);
                    let next = found.map_or_else(
                        |at| at,
                        |at| {
                            let found = &mut behind[at];
                            if found.blocks == above {
                                found.blocks = credit(cover.lead());
                                going += usize::from(found.blocks as usize == depth);
                            }
                            at + 1
                        },
                    );
                    behind = &mut behind[next..];
                }
            }
            if going == 0 || same < node.len as usize {
                break;
            }
        }
        matches
    }
}

/// How many leading elements two slices share.
fn leading(a: &[u64], b: &[u64]) -> usize {
    // Whole pieces compare as memory; only the last is looked at one by one.
    const PIECE: usize = 16;
    let len = a.len().min(b.len());
    let (a, b) = (&a[..len], &b[..len]);
    let pieces = a.chunks_exact(PIECE).zip(b.chunks_exact(PIECE));
    let whole = pieces.take_while(|(a, b)| a == b).count() * PIECE;
    whole + a[whole..].iter().zip(&b[whole..]).take_while(|(a, b)| a == b).count()
}
