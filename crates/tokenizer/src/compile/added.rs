//! Added tokens: their ids by the library's rules, and the two tries.

use std::collections::{BTreeMap, HashMap};

use super::file::{AddedToken, File, Vocab};
use super::pipeline::Pipeline;
use super::{CompileError, unsupported};
use crate::added::{LSTRIP, MANY, RSTRIP, SINGLE_WORD};

#[derive(Default)]
pub(super) struct Tries {
    pub(super) raw: Vec<u8>,
    pub(super) normalized: Vec<u8>,
    /// Some token must be a word of its own.
    pub(super) words: bool,
}

pub(super) fn build(file: &File, pipeline: &Pipeline) -> Result<Tries, CompileError> {
    let Vocab::Map(vocab) = &file.model.vocab else {
        return Err(unsupported("a vocabulary that is not a map"));
    };
    let tokens = number(&file.added_tokens, vocab);
    let (mut raw, mut normalized) = (Vec::new(), Vec::new());
    for (id, token) in &tokens {
        if token.normalized {
            normalized.push((pipeline.normalize(&token.content), *id, flags(token)));
        } else {
            raw.push((token.content.clone(), *id, flags(token)));
        }
    }
    Ok(Tries {
        raw: trie(&raw)?,
        normalized: trie(&normalized)?,
        words: tokens.values().any(|token| token.single_word),
    })
}

/// The library trusts a token's content, not the id that the file gives it.
fn number(tokens: &[AddedToken], vocab: &HashMap<String, u32>) -> BTreeMap<u32, AddedToken> {
    let mut next = vocab.len() as u32;
    let mut by_content: HashMap<&str, u32> = HashMap::new();
    let mut by_id = BTreeMap::new();
    for token in tokens.iter().filter(|token| !token.content.is_empty()) {
        let known = by_content.get(token.content.as_str()).or_else(|| vocab.get(&token.content));
        let id = known.copied().unwrap_or_else(|| {
            next += 1;
            next - 1
        });
        by_content.insert(&token.content, id);
        by_id.insert(id, token.clone());
    }
    by_id
}

fn flags(token: &AddedToken) -> u32 {
    let bit = |set: bool, flag: u32| if set { flag } else { 0 };
    bit(token.single_word, SINGLE_WORD) | bit(token.lstrip, LSTRIP) | bit(token.rstrip, RSTRIP)
}

#[derive(Default)]
struct Node {
    edges: BTreeMap<u8, usize>,
    token: u32,
}

fn trie(tokens: &[(String, u32, u32)]) -> Result<Vec<u8>, CompileError> {
    if tokens.is_empty() {
        return Ok(Vec::new());
    }
    let mut nodes = vec![Node::default()];
    for (i, (content, _, _)) in tokens.iter().enumerate() {
        let mut at = 0;
        for byte in content.bytes() {
            let next = nodes.len();
            let to = *nodes[at].edges.entry(byte).or_insert(next);
            if to == next {
                nodes.push(Node::default());
            }
            at = to;
        }
        if nodes[at].token != 0 {
            return Err(unsupported(format!("two added tokens that read {content:?}")));
        }
        nodes[at].token = i as u32 + 1;
    }
    let firsts: Vec<u8> = nodes[0].edges.keys().copied().collect();
    let mut searched = [MANY, 0, 0, 0];
    if firsts.len() < usize::from(MANY) {
        searched[0] = firsts.len() as u8;
        searched[1..=firsts.len()].copy_from_slice(&firsts);
    }
    let edges: usize = nodes.iter().map(|node| node.edges.len()).sum();
    let mut out = Vec::new();
    for word in
        [nodes.len() as u32, edges as u32, tokens.len() as u32, u32::from_le_bytes(searched)]
    {
        out.extend(word.to_le_bytes());
    }
    for byte in 0..=255u8 {
        let root = nodes[0].edges.get(&byte).copied().unwrap_or(0) as u32;
        out.extend(root.to_le_bytes());
    }
    let mut first = 0u32;
    for node in &nodes {
        for word in [first, node.edges.len() as u32, node.token] {
            out.extend(word.to_le_bytes());
        }
        first += node.edges.len() as u32;
    }
    for (byte, to) in nodes.iter().flat_map(|node| &node.edges) {
        out.extend(u32::from(*byte).to_le_bytes());
        out.extend((*to as u32).to_le_bytes());
    }
    for (_, id, flags) in tokens {
        out.extend(id.to_le_bytes());
        out.extend(flags.to_le_bytes());
    }
    Ok(out)
}
