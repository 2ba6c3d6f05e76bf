/*!
Token ids to block hashes, byte-compatible with NVIDIA Dynamo's router.

An engine caches a prompt in blocks of `block_size` tokens. The *local hash* of
a block is XXH3-64 over its tokens alone; the *sequence hash* chains local
hashes and so names a whole prefix. The index navigates by local hashes: a path
of them from the root is a prefix, so two prompts share exactly the path that
they have in common, and nothing has to be chained to look one up.

Dynamo's function was taken over bit for bit (seed 1337, tokens as
little-endian `u32`, LoRA name and cache salt added into the seed, multimodal
hashes appended sorted), although any good hash would do between our own two
programs: whoever moves from Dynamo, or runs its indexer beside ours, can
compare dumps and feed either with the other's events. The engines' own hashes
(SHA-256 over serialised tuples) were rejected as keys: they differ between
releases and configurations, cost some 20 times as much, and are handles to us.

The source of the formulas is Dynamo's `compute_block_hash_for_seq` and
`compute_seq_hash_for_block`, stable since its 1.0.0.
*/

#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        clippy::string_slice
    )
)]

mod hasher;

pub use hasher::BlockHasher;

use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

/// Seed of every hash where neither adapter nor salt moves it.
pub const SEED: u64 = 1337;

/// The seed for the blocks of one adapter and one cache salt.
///
/// An absent and an empty name are the same. The sum wraps, as in Dynamo.
pub fn seed(adapter: Option<&str>, cache_salt: Option<&str>) -> u64 {
    let part = |name: Option<&str>, seed| {
        name.filter(|name| !name.is_empty())
            .map_or(0, |name| xxh3_64_with_seed(name.as_bytes(), seed))
    };
    SEED.wrapping_add(part(adapter, 0)).wrapping_add(part(cache_salt, 1))
}

/// Local hashes of the full blocks of `tokens`; a partial last block has none.
///
/// A block size of 0 has no blocks, and one above the prompt's length takes no memory: it comes
/// from an engine's events, and what this runs in may not panic.
pub fn local_hashes(tokens: &[u32], block_size: usize, seed: u64) -> Vec<u64> {
    if block_size == 0 || block_size > tokens.len() {
        return Vec::new();
    }
    let mut bytes = Vec::with_capacity(block_size.saturating_mul(4));
    tokens.chunks_exact(block_size).map(|block| local_hash(block, &[], seed, &mut bytes)).collect()
}

/// Local hash of one block that holds the media with these hashes, in any order.
///
/// `bytes` is scratch space, so that a caller with many blocks allocates once.
pub fn local_hash(block: &[u32], media: &[u64], seed: u64, bytes: &mut Vec<u8>) -> u64 {
    bytes.resize(block.len() * 4, 0);
    for (to, token) in bytes.as_chunks_mut().0.iter_mut().zip(block) {
        *to = token.to_le_bytes();
    }
    if !media.is_empty() {
        let mut sorted = media.to_vec();
        sorted.sort_unstable();
        bytes.extend(sorted.iter().flat_map(|hash| hash.to_le_bytes()));
    }
    xxh3_64_with_seed(bytes, seed)
}

/// Sequence hashes of a chain of local hashes.
///
/// The first is the first local hash itself; the chaining always uses
/// [`SEED`], whatever seed the local hashes have.
pub fn sequence_hashes(local: &[u64]) -> Vec<u64> {
    let mut previous = None;
    local
        .iter()
        .map(|&hash| {
            let chained = previous.map_or(hash, |before| sequence_hash(before, hash));
            previous = Some(chained);
            chained
        })
        .collect()
}

/// Sequence hash of the block `local` behind the prefix `previous`.
pub fn sequence_hash(previous: u64, local: u64) -> u64 {
    let mut bytes = [0; 16];
    let (head, tail) = bytes.split_at_mut(8);
    head.copy_from_slice(&previous.to_le_bytes());
    tail.copy_from_slice(&local.to_le_bytes());
    xxh3_64_with_seed(&bytes, SEED)
}

/// Hash of a multimodal object's identifier, as the engines put it into events.
///
/// 64 hexadecimal digits stand for their first 16; any other text is hashed.
/// An empty identifier has none.
pub fn media_hash(identifier: &str) -> Option<u64> {
    if identifier.is_empty() {
        return None;
    }
    let hexadecimal = identifier.len() == 64 && identifier.bytes().all(|b| b.is_ascii_hexdigit());
    let head = identifier.get(..16).filter(|_| hexadecimal);
    Some(
        head.and_then(|digits| u64::from_str_radix(digits, 16).ok())
            .unwrap_or_else(|| xxh3_64(identifier.as_bytes())),
    )
}

/// XXH3-64, seed 0, of all token ids: equal exactly where the ids are.
///
/// For comparing what was hashed with what an engine says, partial last block
/// included, without sending either.
pub fn token_digest(tokens: &[u32]) -> u64 {
    let bytes: Vec<u8> = tokens.iter().flat_map(|token| token.to_le_bytes()).collect();
    xxh3_64(&bytes)
}

#[cfg(test)]
mod tests;
