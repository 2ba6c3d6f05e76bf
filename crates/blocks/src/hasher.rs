//! Blocks hashed while a prompt's tokens come, without keeping the tokens.

use crate::local_hash;

/// Local hashes of one prompt, for several block sizes at a time.
///
/// What it needs to go on is its hashes and the tokens of blocks that are not full:
/// another hasher of the same sizes and seed goes on from there by
/// [`resume`](BlockHasher::resume).
#[derive(Clone, Debug, Default)]
pub struct BlockHasher {
    seed: u64,
    lists: Vec<(u32, Vec<u64>)>,
    /// Tokens that some size has not hashed yet, then those that came since.
    tail: Vec<u32>,
    /// How many tokens came before `tail`.
    before: u64,
    scratch: Vec<u8>,
}

impl BlockHasher {
    /// A hasher for blocks of these sizes, in tokens; there are no blocks of size 0.
    pub fn new(block_sizes: &[u32], seed: u64) -> BlockHasher {
        let lists = block_sizes.iter().map(|size| (*size, Vec::new())).collect();
        BlockHasher { seed, lists, ..BlockHasher::default() }
    }

    /// The seed of its hashes.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// Where the prompt's next tokens are appended; nothing else may be done to it.
    pub fn tokens(&mut self) -> &mut Vec<u32> {
        &mut self.tail
    }

    /// How many tokens the prompt has so far.
    pub fn count(&self) -> u64 {
        self.before + self.tail.len() as u64
    }

    /// Hashes the blocks that have become full, and forgets their tokens.
    pub fn settle(&mut self) {
        let mut needed = self.tail.len();
        for (size, hashes) in &mut self.lists {
            let Some(length) = usize::try_from(*size).ok().filter(|length| *length > 0) else {
                continue;
            };
            let hashed = hashes.len() as u64 * u64::from(*size);
            // No more than the tail's length, as it holds what is not hashed.
            let from = hashed.saturating_sub(self.before) as usize;
            let blocks = self.tail.get(from..).unwrap_or_default().chunks_exact(length);
            let rest = blocks.remainder().len();
            let hash = |block| local_hash(block, &[], self.seed, &mut self.scratch);
            hashes.extend(blocks.map(hash));
            needed = needed.min(self.tail.len() - rest);
        }
        self.before += needed as u64;
        self.tail.drain(..needed);
    }

    /// The tokens of blocks that are not full; all since the last
    /// [`settle`](BlockHasher::settle) are among them.
    pub fn tail(&self) -> &[u32] {
        &self.tail
    }

    /// The hashes so far, by block size, in the order of [`new`](BlockHasher::new).
    pub fn hashes(&self) -> &[(u32, Vec<u64>)] {
        &self.lists
    }

    /// Goes on behind `tokens` more tokens: with the `tail` that a hasher had there, and
    /// the hashes that `more` adds to each size's.
    pub fn resume(
        &mut self,
        tokens: u64,
        tail: impl Iterator<Item = u32>,
        mut more: impl FnMut(usize, &mut Vec<u64>),
    ) {
        let count = self.count() + tokens;
        self.tail.clear();
        self.tail.extend(tail);
        self.before = count.saturating_sub(self.tail.len() as u64);
        for (at, (_, hashes)) in self.lists.iter_mut().enumerate() {
            more(at, hashes);
        }
    }

    /// The hashes of the prompt's first `tokens` tokens, or of all.
    pub fn into_hashes(mut self, tokens: u64) -> Vec<(u32, Vec<u64>)> {
        for (size, hashes) in &mut self.lists {
            let blocks = tokens.checked_div(u64::from(*size)).unwrap_or(0);
            hashes.truncate(usize::try_from(blocks).unwrap_or(usize::MAX));
        }
        self.lists
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{SEED, local_hashes};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn tokens_that_come_in_pieces_have_the_hashes_of_the_whole(
            pieces in prop::collection::vec(prop::collection::vec(any::<u32>(), 0..40), 0..12),
            sizes in prop::collection::vec(0u32..20, 0..4),
            resumed in 0usize..12,
            kept in 0u64..400,
        ) {
            let mut hasher = BlockHasher::new(&sizes, SEED);
            for (at, piece) in pieces.iter().enumerate() {
                hasher.tokens().extend(piece);
                hasher.settle();
                if at == resumed {
                    let mut other = BlockHasher::new(&sizes, SEED);
                    let hashes = hasher.hashes();
                    other.resume(hasher.count(), hasher.tail().iter().copied(), |at, to| {
                        to.extend(&hashes[at].1);
                    });
                    hasher = other;
                }
            }
            let all = pieces.concat();
            prop_assert_eq!(hasher.count(), all.len() as u64);
            prop_assert!(hasher.tail().len() < 20);
            let kept = all.len().min(kept as usize);
            let expected: Vec<_> = sizes
                .iter()
                .map(|size| (*size, local_hashes(&all[..kept], *size as usize, SEED)))
                .collect();
            prop_assert_eq!(hasher.into_hashes(kept as u64), expected);
        }
    }
}
