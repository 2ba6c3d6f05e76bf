//! A tokenizer.json as tiktoken wants it: ranks by bytes, and one pattern.

use std::collections::HashMap;

use anyhow::{Context, Result, bail};
use serde_json::Value;
use tiktoken_rs::CoreBPE;

/// What ByteLevel splits by where the file names no pattern.
const GPT_2: &str = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";

/// Ids serve as ranks, which they are in vocabularies that grew by merging.
pub(crate) fn load(json: &str) -> Result<CoreBPE> {
    let json: Value = serde_json::from_str(json)?;
    let characters = characters();
    let mut ranks = HashMap::default();
    let vocabulary = json["model"]["vocab"].as_object().context("no BPE vocabulary")?;
    let mut special: rustc_hash::FxHashMap<String, u32> = HashMap::default();
    for token in json["added_tokens"].as_array().into_iter().flatten() {
        if let (Some(text), Some(id)) = (token["content"].as_str(), token["id"].as_u64()) {
            special.insert(text.to_owned(), u32::try_from(id)?);
        }
    }
    for (token, id) in vocabulary {
        if special.contains_key(token) {
            continue;
        }
        let bytes: Option<Vec<u8>> = token.chars().map(|c| characters.get(&c).copied()).collect();
        let bytes = bytes.context("not a byte-level vocabulary")?;
        ranks.insert(bytes, u32::try_from(id.as_u64().context("an id")?)?);
    }
    CoreBPE::new(ranks, special, &pattern(&json)?)
}

fn pattern(json: &Value) -> Result<String> {
    let all = match json["pre_tokenizer"]["pretokenizers"].as_array() {
        Some(all) => all.clone(),
        None => vec![json["pre_tokenizer"].clone()],
    };
    let splits: Vec<&str> =
        all.iter().filter_map(|part| part["pattern"]["Regex"].as_str()).collect();
    match splits.as_slice() {
        [] if all.iter().any(|part| part["type"] == "ByteLevel") => Ok(GPT_2.to_owned()),
        [one] => Ok((*one).to_owned()),
        _ => bail!("{} split patterns", splits.len()),
    }
}

/// GPT-2's letters for bytes.
fn characters() -> HashMap<char, u8> {
    let printed = |byte: u8| matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    let mut others = 256..;
    (0..=255_u8)
        .map(|byte| {
            let code = if printed(byte) { u32::from(byte) } else { others.next().unwrap_or(0) };
            (char::from_u32(code).unwrap_or_default(), byte)
        })
        .collect()
}
