//! The model: vocabulary slots, merges that fire, ids of bytes.

use std::collections::HashMap;

use super::file::{Merge, Model, Vocab};
use super::pipeline::Pipeline;
use super::{CompileError, unsupported};
use crate::merge::{self, FAR_PAIR, NO_PAIR};
use crate::table::{FLAG_CHARS, FLAG_CUT_EACH, FLAG_CUT_RUNS, FLAG_META_SPACE, FLAG_SPACE};
use crate::vocab::{FOLDS, Key, MAX_IDS, SHORT, USED, hash_long, home, short_tag};

/// Slots per entry of the vocabulary's and the merges' tables, in sixteenths: fewer
/// probes against fewer cache lines, tried on real vocabularies.
const VOCAB_SLACK: usize = 26;
const MERGE_SLACK: usize = 24;
/// Bits of the merges' filter per merge.
const FILTER_BITS: usize = 8;

pub(super) struct Bpe {
    /// Flags to add to the pipeline's.
    pub(super) flags: u32,
    pub(super) longest: u32,
    pub(super) bytes: Vec<u8>,
    pub(super) short: Vec<u8>,
    pub(super) long: Vec<u8>,
    pub(super) pool: Vec<u8>,
    pub(super) merges: Vec<u8>,
    pub(super) merged: Vec<u8>,
    pub(super) filter: Vec<u8>,
    pub(super) pairs: Vec<u8>,
}

/// A token that a lookup can hit: the bytes of its text as the model's input has them.
struct Token {
    text: Vec<u8>,
    id: u32,
    /// The last merge of its own encoding, if that gives it.
    made_by: Option<(u32, u32, u32)>,
    folds: bool,
}

pub(super) fn build(model: &Model, pipeline: &Pipeline) -> Result<Bpe, CompileError> {
    let vocab = check(model)?;
    let chars = pipeline.has(FLAG_CHARS);
    if chars && !(pipeline.has(FLAG_SPACE) || pipeline.has(FLAG_META_SPACE)) {
        return Err(unsupported("BPE on characters without SentencePiece's spaces"));
    }
    let ignore_merges = model.ignore_merges.unwrap_or(false);
    let bytes = if chars { fallback_ids(model, vocab)? } else { byte_ids(vocab)? };
    let merges = merge_map(model, vocab)?;
    let mut tokens: Vec<Token> = Vec::with_capacity(vocab.len());
    for (text, id) in vocab {
        let text = if chars { Some(text.as_bytes().to_vec()) } else { to_bytes(text) };
        // Text outside the byte alphabet is never the model's input.
        let Some(text) = text.filter(|text| !text.is_empty()) else { continue };
        let mut symbols: Vec<u32> = match std::str::from_utf8(&text) {
            Ok(text) if chars => text
                .chars()
                .flat_map(|c| match vocab.get(c.encode_utf8(&mut [0; 4])) {
                    Some(id) => vec![*id],
                    None => {
                        c.encode_utf8(&mut [0; 4]).bytes().map(|b| bytes[usize::from(b)]).collect()
                    }
                })
                .collect(),
            _ => text.iter().map(|byte| bytes[usize::from(*byte)]).collect(),
        };
        let last = encode(&mut symbols, &merges);
        let whole = symbols == [*id];
        let made_by = if whole { last } else { None };
        tokens.push(Token { text, id: *id, made_by, folds: whole || ignore_merges });
    }
    // Frequent tokens first: they get the first slots.
    tokens.sort_by(|a, b| a.id.cmp(&b.id).then_with(|| a.text.cmp(&b.text)));
    let cut = chars && !tokens.iter().any(crosses_space);
    if tokens.windows(2).any(|pair| pair[0].id == pair[1].id) {
        return Err(unsupported("two tokens of one id"));
    }
    let mut fired = fired(&tokens);
    let ordered = fired.is_sorted_by_key(|merge| merge.id);
    if ordered {
        fired.iter_mut().for_each(|merge| merge.rank = merge.id);
    }
    let (short, long, pool) = write_vocab(&tokens);
    let cut_runs = cut && !pipeline.has(FLAG_CUT_EACH);
    Ok(Bpe {
        flags: if cut_runs { FLAG_CUT_RUNS } else { 0 },
        longest: tokens.iter().map(|token| token.text.len()).max().unwrap_or(0) as u32,
        bytes: bytes.iter().flat_map(|id| id.to_le_bytes()).collect(),
        short,
        long,
        pool,
        merges: write_merges(&fired),
        merged: match ordered {
            true => Vec::new(),
            false => fired.iter().flat_map(|merge| merge.id.to_le_bytes()).collect(),
        },
        filter: write_filter(&fired),
        pairs: if chars { Vec::new() } else { write_pairs(&fired, &tokens, &bytes) },
    })
}

fn check(model: &Model) -> Result<&HashMap<String, u32>, CompileError> {
    match model.kind.as_deref() {
        Some("BPE") => {}
        None if !model.merges.is_empty() => {}
        None => return Err(unsupported("a model without a type")),
        Some(other) => return Err(unsupported(format!("the model {other}"))),
    }
    let Vocab::Map(vocab) = &model.vocab else {
        return Err(unsupported("a vocabulary that is not a map"));
    };
    if model.dropout.is_some_and(|dropout| dropout != 0.0) {
        return Err(unsupported("dropout"));
    }
    for affix in [&model.continuing_subword_prefix, &model.end_of_word_suffix] {
        if affix.as_ref().is_some_and(|affix| !affix.is_empty()) {
            return Err(unsupported("a subword prefix or suffix"));
        }
    }
    if vocab.values().any(|id| *id >= MAX_IDS) || model.merges.len() >= MAX_IDS as usize {
        return Err(unsupported("ids beyond 2^21"));
    }
    Ok(vocab)
}

/// GPT-2's letters for bytes.
fn letters() -> [char; 256] {
    let mut letters = ['\0'; 256];
    let mut next = 256;
    for byte in 0..=255u8 {
        letters[usize::from(byte)] = match byte {
            b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF => char::from(byte),
            _ => {
                next += 1;
                char::from_u32(next - 1).unwrap_or('\0')
            }
        };
    }
    letters
}

fn to_bytes(text: &str) -> Option<Vec<u8>> {
    let letters = letters();
    let reverse: HashMap<char, u8> =
        letters.iter().enumerate().map(|(byte, letter)| (*letter, byte as u8)).collect();
    text.chars().map(|c| reverse.get(&c).copied()).collect()
}

fn byte_ids(vocab: &HashMap<String, u32>) -> Result<Vec<u32>, CompileError> {
    let letters = letters();
    (0..=255u8)
        .map(|byte| {
            let id = vocab.get(letters[usize::from(byte)].encode_utf8(&mut [0; 4])).copied();
            match id {
                Some(id) => Ok(id),
                // Never in UTF-8.
                None if matches!(byte, 0xC0 | 0xC1 | 0xF5..) => Ok(0),
                None => Err(unsupported(format!("no token for the byte {byte:#04x}"))),
            }
        })
        .collect()
}

fn fallback_ids(model: &Model, vocab: &HashMap<String, u32>) -> Result<Vec<u32>, CompileError> {
    if !model.byte_fallback.unwrap_or(false) {
        return Err(unsupported("BPE on characters without byte fallback"));
    }
    (0..=255u8)
        .map(|byte| {
            let id = vocab.get(&format!("<{byte:#04X}>")).copied();
            id.ok_or_else(|| unsupported(format!("no fallback token for the byte {byte:#04x}")))
        })
        .collect()
}

type MergeMap = HashMap<(u32, u32), (u32, u32)>;

fn merge_map(model: &Model, vocab: &HashMap<String, u32>) -> Result<MergeMap, CompileError> {
    let mut map = MergeMap::with_capacity(model.merges.len());
    let mut rank = 0;
    // Tokens that stand for something else than their own text.
    let unknown = model.unk_token.as_ref().and_then(|token| vocab.get(token));
    for entry in &model.merges {
        let (left, right) = match entry {
            Merge::Pair(left, right) => (left.as_str(), right.as_str()),
            Merge::Line(line) if line.starts_with("#version") => continue,
            Merge::Line(line) => line
                .split_once(' ')
                .filter(|(_, right)| !right.contains(' '))
                .ok_or_else(|| CompileError::Inconsistent(format!("the merge {line:?}")))?,
        };
        let find = |token: &str| {
            vocab.get(token).copied().ok_or_else(|| {
                CompileError::Inconsistent(format!("a merge names {token:?}, which is no token"))
            })
        };
        let (l, r, merged) = (find(left)?, find(right)?, find(&format!("{left}{right}"))?);
        if [l, r].iter().any(|id| Some(id) == unknown) {
            return Err(unsupported("a merge of the unknown token"));
        }
        map.insert((l, r), (rank, merged));
        rank += 1;
    }
    Ok(map)
}

/// Plain BPE: lowest rank, leftmost. Says the last merge as (rank, left, right).
fn encode(symbols: &mut Vec<u32>, merges: &MergeMap) -> Option<(u32, u32, u32)> {
    let mut last = None;
    let rank = |left: u32, right: u32| merges.get(&(left, right)).map_or(u32::MAX, |m| m.0);
    let mut ranks: Vec<u32> = symbols.windows(2).map(|pair| rank(pair[0], pair[1])).collect();
    while let Some((at, best)) =
        ranks.iter().copied().enumerate().min_by_key(|(at, rank)| (*rank, *at))
    {
        if best == u32::MAX {
            break;
        }
        let (left, right) = (symbols[at], symbols[at + 1]);
        let Some((_, merged)) = merges.get(&(left, right)) else { break };
        last = Some((best, left, right));
        symbols[at] = *merged;
        symbols.remove(at + 1);
        ranks.remove(at);
        if at > 0 {
            ranks[at - 1] = rank(symbols[at - 1], symbols[at]);
        }
        if at + 1 < symbols.len() {
            ranks[at] = rank(symbols[at], symbols[at + 1]);
        }
    }
    last
}

/// Whether a token has `▁` behind another character: text cannot be cut before it then.
fn crosses_space(token: &Token) -> bool {
    let text = String::from_utf8_lossy(&token.text);
    let mut before = None;
    text.chars().any(|c| {
        let crosses = c == '\u{2581}' && before.is_some_and(|b| b != '\u{2581}');
        before = Some(c);
        crosses
    })
}

/// A table of `entries.len()` slots and a sixteenth's worth more, each entry at the first
/// free slot from its home.
fn place<const N: usize>(entries: &[(u64, [u8; N])], slack: usize, empty: [u8; N]) -> Vec<u8> {
    let slots = entries.len() * slack / 16 + 2;
    let mut table = vec![None; slots];
    for (hash, entry) in entries {
        let mut at = home(*hash, slots);
        while table[at].is_some() {
            at = (at + 1) % slots;
        }
        table[at] = Some(*entry);
    }
    table.into_iter().flat_map(|slot| slot.unwrap_or(empty)).collect()
}

/// A merge that fires. Ranks are those among them, or ids in the same order.
struct Fired {
    left: u32,
    right: u32,
    id: u32,
    rank: u32,
    /// A merge of its token ranks before it.
    early: bool,
}

fn fired(tokens: &[Token]) -> Vec<Fired> {
    let mut ranked: Vec<Fired> = tokens
        .iter()
        .filter_map(|token| {
            let (rank, left, right) = token.made_by?;
            Some(Fired { left, right, id: token.id, rank, early: false })
        })
        .collect();
    ranked.sort_unstable_by_key(|merge| merge.rank);
    for (rank, merge) in ranked.iter_mut().enumerate() {
        merge.rank = rank as u32;
    }
    let mut first_use = HashMap::new();
    for merge in &ranked {
        for side in [merge.left, merge.right] {
            first_use.entry(side).or_insert(merge.rank);
        }
    }
    for merge in &mut ranked {
        merge.early = first_use.get(&merge.id).is_some_and(|rank| *rank <= merge.rank);
    }
    ranked
}

fn write_merges(fired: &[Fired]) -> Vec<u8> {
    let entries: Vec<(u64, [u8; 8])> = fired
        .iter()
        .map(|Fired { left, right, rank, early, .. }| {
            let hash = merge::hash(merge::pair(*left, *right));
            (hash, merge::slot(*left, *right, *rank, *early).to_le_bytes())
        })
        .collect();
    place(&entries, MERGE_SLACK, merge::EMPTY_SLOT.to_le_bytes())
}

fn write_filter(fired: &[Fired]) -> Vec<u8> {
    let mut filter = vec![0u8; fired.len() * FILTER_BITS / 8 + 8];
    let bits = 8 * filter.len();
    for merge in fired {
        let bit = home(merge::hash(merge::pair(merge.left, merge.right)), bits);
        filter[bit / 8] |= 1 << (bit % 8);
    }
    filter
}

/// See `merge`: rank, and least ranks of what could take a byte away, by both bytes.
fn write_pairs(fired: &[Fired], tokens: &[Token], bytes: &[u32]) -> Vec<u8> {
    let clip = |rank: u32| u16::try_from(rank).map_or(FAR_PAIR, |rank| rank.min(FAR_PAIR));
    let of: HashMap<u32, usize> = bytes.iter().enumerate().map(|(b, id)| (*id, b)).collect();
    let texts: HashMap<u32, &[u8]> =
        tokens.iter().map(|token| (token.id, token.text.as_slice())).collect();
    let mut entries = vec![[NO_PAIR, NO_PAIR, NO_PAIR, 0]; 0x1_0000];
    for merge in fired {
        let rank = clip(merge.rank);
        let (left, right) = (of.get(&merge.left), of.get(&merge.right));
        if let (Some(left), Some(right)) = (left, right) {
            entries[left << 8 | right][0] = if merge.early { FAR_PAIR } else { rank };
        }
        if let (Some(last), Some(right)) = (texts.get(&merge.left).and_then(|t| t.last()), right) {
            let before = &mut entries[usize::from(*last) << 8 | right][1];
            *before = rank.min(*before);
        }
        if let (Some(left), Some(first)) = (left, texts.get(&merge.right).and_then(|t| t.first())) {
            let behind = &mut entries[left << 8 | usize::from(*first)][2];
            *behind = rank.min(*behind);
        }
    }
    entries.into_iter().flatten().flat_map(u16::to_le_bytes).collect()
}

fn write_vocab(tokens: &[Token]) -> (Vec<u8>, Vec<u8>, Vec<u8>) {
    let (mut short, mut long, mut pool) = (Vec::new(), Vec::new(), Vec::new());
    for token in tokens {
        let len = token.text.len();
        if len <= SHORT {
            let key = Key::load(&token.text, 0, len);
            let mut slot = [0; 16];
            slot[..8].copy_from_slice(&key.low.to_le_bytes());
            slot[8..12].copy_from_slice(&(key.high as u32).to_le_bytes());
            slot[12..].copy_from_slice(&short_tag(token.id, len as u32, token.folds).to_le_bytes());
            short.push((key.hash(), slot));
        } else {
            let hash = hash_long(&token.text);
            let tag = USED | if token.folds { FOLDS } else { 0 } | token.id;
            let mut slot = [0; 12];
            slot[..4].copy_from_slice(&tag.to_le_bytes());
            slot[4..8].copy_from_slice(&((hash >> 32) as u32).to_le_bytes());
            slot[8..].copy_from_slice(&(pool.len() as u32).to_le_bytes());
            long.push((hash, slot));
            pool.extend((len as u16).to_le_bytes());
            pool.extend(&token.text);
        }
    }
    (place(&short, VOCAB_SLACK, [0; 16]), place(&long, VOCAB_SLACK, [0; 12]), pool)
}
