/*!
Events into the index: the tokens of each block are hashed as a request's are.

The engine's hash of a block covers more than its tokens: the adapter, the cache
salt, media and prompt embeddings. What a request can name too (adapter and
salt) moves the seed of the local hashes, exactly as the filter moves it. Media
and embeddings are hashed into the block they lie in: a request whose text alone
has the same tokens must not match it, and everything behind it stays a chain,
so that removals find it. Leaving such blocks out instead would make every block
behind them an orphan.

The adapter is named in every event, the salt only with the first block of a
prompt; a chain behind a parent inherits the parent's whole seed.
*/

use std::collections::HashMap;
use std::sync::Arc;

use warmpath_blocks::{local_hash, media_hash, seed};
use warmpath_radix::{Block, EngineHash, Holder, Index, StoreError, Tier};

use super::RankSnapshot;
use super::wire::{Event, Key, Reject, Scope, Stored};

/// Attention whose cache alone decides how much of a prefix can be used again.
/// With windows and states an engine drops blocks that it no longer needs.
const MAIN_ATTENTION: [&str; 3] = ["full_attention", "mla_attention", "sink_full_attention"];

/// What became of one event.
enum Fate {
    Done,
    Ignored(&'static str),
}

/// Writes the events of one stream into the index.
pub(super) struct Writer {
    index: Arc<Index>,
    declared_block_size: Option<u32>,
    block_size: Option<u32>,
    /// Which cache groups of which rank were seen to be main attention: removals
    /// name the group only.
    groups: HashMap<(u32, u32), bool>,
    scratch: Vec<u8>,
}

impl Writer {
    pub(super) fn new(index: Arc<Index>, declared_block_size: Option<u32>) -> Self {
        Self {
            index,
            declared_block_size,
            block_size: declared_block_size,
            groups: HashMap::new(),
            scratch: Vec::new(),
        }
    }

    /// The engine began anew, perhaps with other settings.
    pub(super) fn restart(&mut self) {
        self.block_size = self.declared_block_size;
        self.groups.clear();
    }

    pub(super) fn index(&self) -> &Arc<Index> {
        &self.index
    }

    /// Which cache groups were seen, to be told to [`Self::resume`].
    pub(super) fn groups(&self) -> Vec<(u32, u32, bool)> {
        self.groups.iter().map(|(&(rank, group), &is_main)| (rank, group, is_main)).collect()
    }

    /// What an earlier process had learned.
    pub(super) fn resume(&mut self, block_size: Option<u32>, groups: &[(u32, u32, bool)]) {
        self.block_size = self.declared_block_size.or(block_size);
        self.groups = groups.iter().map(|&(rank, group, main)| ((rank, group), main)).collect();
    }

    pub(super) fn block_size(&self) -> Option<u32> {
        self.block_size
    }

    pub(super) fn clear(&self, holder: Holder) {
        self.index.clear(holder);
    }

    /// Applies one event and counts what came of it.
    pub(super) fn apply(&mut self, holder: Holder, event: Event<'_>, counts: &mut RankSnapshot) {
        let fate = match event {
            Event::Stored(stored) => self.stored(holder, &stored, counts),
            Event::Removed { scope, hashes } => match self.tier(holder, scope) {
                Err(reason) => Ok(Fate::Ignored(reason)),
                Ok(tier) => {
                    let dropped = self.index.remove(holder, tier, &hashes);
                    counts.removed_blocks += (dropped.last + dropped.copies + dropped.aside) as u64;
                    unknown(counts, dropped.unknown);
                    Ok(Fate::Done)
                }
            },
            Event::Cleared => {
                self.index.clear(holder);
                counts.clears += 1;
                Ok(Fate::Done)
            }
            Event::Ignored => Ok(Fate::Ignored("marked_ignored")),
        };
        match fate {
            Ok(Fate::Done) => {}
            Ok(Fate::Ignored(reason)) => count(&mut counts.ignored, reason),
            Err(reject) => {
                tracing::debug!(?holder, %reject, "event rejected");
                count(&mut counts.rejected, reject.name());
            }
        }
    }

    /// A removal that does not say from where, of blocks that are on one tier at a time.
    pub(super) fn remove_anywhere(
        &self,
        holder: Holder,
        hashes: &[EngineHash],
        counts: &mut RankSnapshot,
    ) {
        let used = [Tier::Disk, Tier::Host].map(|tier| self.index.blocks(holder, tier) > 0);
        let most = if used.contains(&true) { 1 } else { hashes.len().max(1) };
        for hashes in hashes.chunks(most) {
            let mut left = hashes.len();
            for tier in [Tier::Device, Tier::Host, Tier::Disk] {
                if left == 0 {
                    break;
                }
                let dropped = self.index.remove(holder, tier, hashes);
                counts.removed_blocks += (dropped.last + dropped.copies + dropped.aside) as u64;
                left = if most == 1 { dropped.unknown } else { 0 };
                if most > 1 || tier == Tier::Disk {
                    unknown(counts, dropped.unknown);
                }
            }
        }
    }

    /// A block goes from one tier to another and keeps its name.
    pub(super) fn move_block(
        &self,
        holder: Holder,
        hash: EngineHash,
        from: Tier,
        to: Tier,
        counts: &mut RankSnapshot,
    ) {
        if from == to {
            return;
        }
        // In this order: its name must not be forgotten between the two.
        let held = self.index.hold(holder, to, &[hash]);
        if held.new + held.copies == 0 {
            return unknown(counts, 1);
        }
        let dropped = self.index.remove(holder, from, &[hash]);
        counts.stored_blocks += 1;
        counts.removed_blocks += (dropped.last + dropped.copies + dropped.aside) as u64;
    }

    fn stored(
        &mut self,
        holder: Holder,
        stored: &Stored<'_>,
        counts: &mut RankSnapshot,
    ) -> Result<Fate, Reject> {
        let tier = match self.tier(holder, stored.scope) {
            Ok(tier) => tier,
            Err(reason) => return Ok(Fate::Ignored(reason)),
        };
        if tier != Tier::Device && stored.tokens.is_empty() {
            // A copy of blocks that the event does not describe again.
            let held = self.index.hold(holder, tier, &stored.hashes);
            counts.stored_blocks += (held.new + held.copies) as u64;
            unknown(counts, stored.hashes.len() - held.new - held.copies);
            return Ok(Fate::Done);
        }
        if stored.has_adapter_id && stored.adapter.is_none() {
            // Which adapter the number stands for is not said, and under the base
            // model's seed its blocks would be a false claim.
            return Ok(Fate::Ignored("adapter_without_name"));
        }
        let size = stored.block_size as usize;
        if size == 0 || self.block_size.is_some_and(|known| known != stored.block_size) {
            return Err(Reject::BlockSize);
        }
        if stored.tokens.is_empty() && !stored.hashes.is_empty() {
            return Err(Reject::NoTokens);
        }
        if size.checked_mul(stored.hashes.len()) != Some(stored.tokens.len()) {
            return Err(Reject::TokenCount);
        }
        let seed = match stored.parent {
            // Of a parent that is not there (yet) no salt is known. If it comes with one,
            // the index lets go of what waited for it.
            Some(parent) => self
                .index
                .seed(holder, parent)
                .unwrap_or_else(|| seed(stored.adapter, stored.cache_salt)),
            None => seed(stored.adapter, salt(stored)),
        };
        let mut blocks = Vec::with_capacity(stored.hashes.len());
        let mut media = Vec::new();
        for (at, (tokens, &engine)) in
            stored.tokens.chunks_exact(size).zip(&stored.hashes).enumerate()
        {
            media.clear();
            media.extend(stored.media.get(at).into_iter().flatten());
            media.extend(media_keys(stored, at));
            blocks
                .push(Block { local: local_hash(tokens, &media, seed, &mut self.scratch), engine });
        }
        let done =
            self.index.store(holder, tier, stored.parent, seed, &blocks).map_err(|error| {
                match error {
                    StoreError::SelfParent => Reject::SelfParent,
                    StoreError::Full => Reject::IndexFull,
                }
            })?;
        if done.aside > 0 {
            return Err(Reject::UnknownParent);
        }
        counts.stored_blocks += (done.new + done.copies) as u64;
        // No block, no size: the count of tokens says nothing of it then.
        if !blocks.is_empty() {
            self.block_size = Some(stored.block_size);
        }
        Ok(Fate::Done)
    }

    /// The tier that an event speaks of, or why it is none of ours: an unknown medium,
    /// another node, or attention that is not the main one.
    fn tier(&mut self, holder: Holder, scope: Scope<'_>) -> Result<Tier, &'static str> {
        let tier = tier(scope.medium).ok_or("medium")?;
        if !matches!(scope.locality, None | Some("LOCAL")) {
            return Err("remote");
        }
        if scope.ownership.is_some() {
            return Err("ownership");
        }
        let group = (holder.rank, scope.group.unwrap_or(0));
        let main = match scope.kind {
            Some(kind) => {
                let main = MAIN_ATTENTION.contains(&kind);
                self.groups.insert(group, main);
                main
            }
            None => self.groups.get(&group).copied().unwrap_or(group.1 == 0),
        };
        if main { Ok(tier) } else { Err("other_attention") }
    }
}

/// The names that vLLM (of any release) and SGLang give their media. What is shared
/// between nodes is no tier of one worker.
fn tier(medium: Option<&str>) -> Option<Tier> {
    const NAMES: [(&str, Tier); 10] = [
        ("GPU", Tier::Device),
        ("DEVICE", Tier::Device),
        ("CPU", Tier::Host),
        ("CPU_PINNED", Tier::Host),
        ("CPU_TIER1", Tier::Host),
        ("CPU_TIER2", Tier::Disk),
        ("DISK", Tier::Disk),
        ("NVME", Tier::Disk),
        ("FS", Tier::Disk),
        ("STORAGE", Tier::Disk),
    ];
    let Some(medium) = medium else { return Some(Tier::Device) };
    NAMES.iter().find(|(name, _)| name.eq_ignore_ascii_case(medium)).map(|(_, tier)| *tier)
}

fn unknown(counts: &mut RankSnapshot, blocks: usize) {
    if blocks > 0 {
        *counts.ignored.entry("unknown_block").or_default() += blocks as u64;
    }
}

/// Texts in a block's extra keys, without the adapter's name, which vLLM puts
/// first into every block.
fn texts<'a>(stored: &'a Stored<'_>, block: usize) -> impl Iterator<Item = &'a str> {
    let keys = stored.extra_keys.get(block).map_or(&[][..], Vec::as_slice);
    let texts = keys.iter().filter_map(|key| match key {
        Key::Text(text) => Some(*text),
        _ => None,
    });
    texts.enumerate().filter(|&(at, text)| at > 0 || stored.adapter != Some(text)).map(|(_, t)| t)
}

/// The cache salt: a field of its own, or the first text left in the first block.
fn salt<'a>(stored: &'a Stored<'_>) -> Option<&'a str> {
    stored.cache_salt.or_else(|| texts(stored, 0).next())
}

/// What else than tokens, adapter and salt a block's engine hash covers.
///
/// Old releases name media by bare texts. In the first block of a prompt the
/// first of them is taken for the salt; such a block matches no request either
/// way.
fn media_keys(stored: &Stored<'_>, block: usize) -> impl Iterator<Item = u64> {
    let salted = block == 0 && stored.parent.is_none() && stored.cache_salt.is_none();
    let bare = texts(stored, block).skip(usize::from(salted)).filter_map(media_hash);
    let keys = stored.extra_keys.get(block).map_or(&[][..], Vec::as_slice);
    let others = keys.iter().filter_map(|key| match key {
        Key::Text(_) => None,
        Key::Media(identifier) => media_hash(identifier),
        Key::Opaque(bytes) => Some(opaque(bytes)),
    });
    others.chain(bare)
}

/// A media hash for a key that is not text: its bytes, spelt as words.
fn opaque(bytes: &[u8]) -> u64 {
    let words: Vec<u32> = bytes
        .chunks(4)
        .map(|chunk| chunk.iter().fold(1, |word: u32, &byte| word << 8 | u32::from(byte)))
        .collect();
    warmpath_blocks::token_digest(&words)
}

pub(super) fn count(
    counts: &mut std::collections::BTreeMap<&'static str, u64>,
    reason: &'static str,
) {
    *counts.entry(reason).or_default() += 1;
}

#[cfg(test)]
mod tests;
