//! Merging of long runs of one symbol, counted instead of listed.
//!
//! Half a megabyte of spaces is one run; its tokens follow from its length in a few
//! steps. Where every merge ranks behind those that made its sides, merging goes through
//! the ranks in ascending order, and all pairs of one rank can be merged in one pass from
//! the left. Vocabularies put together from two have a few merges for which that does not
//! hold (Llama 3.1: 81); where one of those comes up, the runs are left to the heap.

use crate::merge::{Merges, NONE};

/// `count` times `symbol`.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Symbols {
    pub(crate) symbol: u32,
    pub(crate) count: u32,
    /// How many of the piece's first symbols each one is made of.
    pub(crate) width: u32,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Runs {
    runs: Vec<Symbols>,
    merged: Vec<Symbols>,
}

impl Runs {
    /// Takes runs from the head of `symbols`, at most `most` of them; says how many symbols
    /// they cover.
    pub(crate) fn fill(&mut self, symbols: &[u32], most: usize) -> usize {
        self.runs.clear();
        for (at, symbol) in symbols.iter().enumerate() {
            let full = self.runs.len() == most;
            match self.runs.last_mut() {
                Some(run) if run.symbol == *symbol => run.count += 1,
                _ if full => return at,
                _ => self.runs.push(Symbols { symbol: *symbol, count: 1, width: 1 }),
            }
        }
        symbols.len()
    }

    /// Merges until no pair is left; false where runs can not say what comes of them.
    pub(crate) fn merge(&mut self, merges: &Merges<'_>) -> bool {
        while let Some((left, right, symbol)) = self.best(merges) {
            if merges.is_early(left, right) {
                return false;
            }
            let Runs { runs, merged } = self;
            merged.clear();
            let mut found = false;
            for run in runs.drain(..) {
                if left == right && run.symbol == left && run.count > 1 {
                    found = true;
                    let pairs = Symbols { symbol, count: run.count / 2, width: 2 * run.width };
                    push(merged, pairs);
                    push(merged, Symbols { count: run.count % 2, ..run });
                } else if let Some(before) = merged
                    .last_mut()
                    .filter(|before| left != right && before.symbol == left && run.symbol == right)
                {
                    found = true;
                    before.count -= 1;
                    let width = before.width + run.width;
                    if before.count == 0 {
                        merged.pop();
                    }
                    push(merged, Symbols { symbol, count: 1, width });
                    push(merged, Symbols { count: run.count - 1, ..run });
                } else {
                    push(merged, run);
                }
            }
            std::mem::swap(runs, merged);
            // Only a table that lies has a best pair and then none of it.
            if !found {
                break;
            }
        }
        true
    }

    /// Gives each token and its first symbol's place.
    pub(crate) fn tokens(&self, mut token: impl FnMut(u32, usize)) {
        let mut at = 0;
        for run in &self.runs {
            for _ in 0..run.count {
                token(run.symbol, at);
                at += run.width as usize;
            }
        }
    }

    /// The pair of lowest rank, and what it becomes.
    fn best(&self, merges: &Merges<'_>) -> Option<(u32, u32, u32)> {
        let within = self.runs.iter().filter(|run| run.count > 1).map(|r| (r.symbol, r.symbol));
        let between = self.runs.windows(2).filter_map(|pair| match pair {
            [left, right] => Some((left.symbol, right.symbol)),
            _ => None,
        });
        let (rank, left, right) = within
            .chain(between)
            .map(|(left, right)| (merges.rank(left, right), left, right))
            .min()
            .filter(|(rank, _, _)| *rank != NONE)?;
        Some((left, right, merges.merged(rank)))
    }
}

/// Appends a run, joined with the one before where both are of one symbol.
fn push(runs: &mut Vec<Symbols>, run: Symbols) {
    if run.count == 0 {
        return;
    }
    match runs.last_mut() {
        Some(last) if last.symbol == run.symbol && last.width == run.width => {
            last.count += run.count;
        }
        _ => runs.push(run),
    }
}
