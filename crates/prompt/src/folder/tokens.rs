//! Added and special tokens, merged as transformers merges its files.

use super::classes::Class;
use super::{Files, LoadError, TOKENIZER, dict, optional_dict, text};
use crate::json::{Dict, Json};
use std::collections::BTreeMap;
use tokenizers::{AddedToken, Tokenizer};

const NAMED: [&str; 7] =
    ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];

/// Adds to `tokenizer` what the configuration files know beyond `tokenizer.json`;
/// returns the named special tokens, which every template sees as variables.
pub(super) fn add(
    tokenizer: &mut Tokenizer,
    files: &Files,
    class: Class,
) -> Result<BTreeMap<String, String>, LoadError> {
    let mut config = files.tokenizer_config.clone();
    let configured = configured_tokens(&mut config, files)?;
    let known: Vec<AddedToken> = tokenizer.get_added_tokens_decoder().into_values().collect();
    let mut new: Vec<AddedToken> = Vec::new();
    for token in &configured {
        if !known.contains(token) {
            new.push(token.clone());
        }
    }
    let named = named_tokens(&config, class)?;
    let extra =
        match config.given("extra_special_tokens").or(config.given("additional_special_tokens")) {
            Some(Json::List(tokens)) => {
                tokens.iter().map(special_token).collect::<Result<Vec<_>, _>>()?
            }
            _ => Vec::new(),
        };
    for token in named.iter().map(|(_, token)| token).chain(&extra) {
        let same = |other: &AddedToken| other.content == token.content;
        if !known.iter().any(same) && !new.iter().any(same) {
            // A token that the configuration describes keeps its flags.
            let described = configured.iter().find(|other| same(other));
            new.push(described.unwrap_or(token).clone());
        }
    }
    for token in &mut new {
        token.special |= named.iter().any(|(_, other)| other.content == token.content);
    }
    tokenizer.add_tokens(new).map_err(|error| LoadError::Unsupported(error.to_string()))?;
    Ok(named.into_iter().map(|(name, token)| (name, token.content)).collect())
}

/// `added_tokens_decoder`, by id; without it the older files count.
fn configured_tokens(config: &mut Dict, files: &Files) -> Result<Vec<AddedToken>, LoadError> {
    if let Some(decoder) = config.remove("added_tokens_decoder") {
        let Json::Dict(decoder) = decoder else { return Err(unclear("added_tokens_decoder")) };
        let mut tokens = decoder
            .iter()
            .map(|(id, token)| {
                let id: u32 = id.parse().map_err(|_| unclear("added_tokens_decoder"))?;
                let token = token.as_dict().ok_or_else(|| unclear("added_tokens_decoder"))?;
                Ok((id, described_token(token, None)?))
            })
            .collect::<Result<Vec<_>, LoadError>>()?;
        tokens.sort_by_key(|(id, _)| *id);
        return Ok(tokens.into_iter().map(|(_, token)| token).collect());
    }
    for (key, value) in optional_dict(&files.folder.join("special_tokens_map.json"))? {
        config.set(&key, value);
    }
    let own = match files.tokenizer.get("added_tokens") {
        Some(Json::List(tokens)) => tokens.as_slice(),
        _ => &[],
    };
    let known: Vec<&str> = own.iter().filter_map(Json::as_dict).filter_map(content).collect();
    let older = files.folder.join("added_tokens.json");
    if older.exists() {
        let older = dict(&older, &text(&older)?)?;
        if let Some((token, _)) = older.iter().find(|(token, _)| !known.contains(token)) {
            return Err(LoadError::Unsupported(format!(
                "added_tokens.json has {token:?}, {TOKENIZER} does not"
            )));
        }
    }
    Ok(Vec::new())
}

/// The special tokens that have a name: the seven usual ones, others that end in
/// `_token`, and those of a dict of extra tokens.
fn named_tokens(config: &Dict, class: Class) -> Result<Vec<(String, AddedToken)>, LoadError> {
    let mut named = Vec::new();
    for name in NAMED {
        let default = class.default_tokens().iter().find(|(key, _)| *key == name);
        match (config.get(name), default) {
            (Some(Json::Null), _) | (None, None) => {}
            (Some(token), _) => named.push((name.to_owned(), special_token(token)?)),
            (None, Some((_, token))) => {
                named.push((name.to_owned(), AddedToken::from(*token, true)));
            }
        }
    }
    let extra = config.get("extra_special_tokens").and_then(Json::as_dict);
    let extra = extra.into_iter().flat_map(Dict::iter);
    let other = config.iter().filter(|(name, value)| {
        name.ends_with("_token") && !NAMED.contains(name) && value.as_str().is_some()
    });
    for (name, token) in other.chain(extra) {
        named.push((name.to_owned(), special_token(token)?));
    }
    Ok(named)
}

fn special_token(token: &Json) -> Result<AddedToken, LoadError> {
    match token {
        Json::Str(content) => Ok(AddedToken::from(content.as_str(), true)),
        Json::Dict(token) => described_token(token, Some(true)),
        _ => Err(unclear("a special token")),
    }
}

fn content(token: &Dict) -> Option<&str> {
    token.get("content").and_then(Json::as_str)
}

fn described_token(token: &Dict, special: Option<bool>) -> Result<AddedToken, LoadError> {
    let flag = |key: &str| match token.get(key) {
        Some(Json::Bool(flag)) => Some(*flag),
        _ => None,
    };
    let content = content(token).ok_or_else(|| unclear("a special token"))?;
    let special = special.or(flag("special")).unwrap_or(false);
    Ok(AddedToken {
        content: content.to_owned(),
        single_word: flag("single_word").unwrap_or(false),
        lstrip: flag("lstrip").unwrap_or(false),
        rstrip: flag("rstrip").unwrap_or(false),
        normalized: flag("normalized").unwrap_or(!special),
        special,
    })
}

fn unclear(what: &str) -> LoadError {
    LoadError::Unsupported(format!("{what} in tokenizer_config.json has an unknown form"))
}

/// The ids that `add_special_tokens` puts before and after a text, found by encoding.
pub(super) fn around(tokenizer: &Tokenizer) -> Result<(Vec<u32>, Vec<u32>), LoadError> {
    let encode = |text: &str, special| {
        let encoding = tokenizer.encode_fast(text, special);
        let encoding = encoding.map_err(|error| LoadError::Unsupported(error.to_string()))?;
        Ok::<_, LoadError>(encoding.get_ids().to_vec())
    };
    let split = |text: &str| {
        let (bare, whole) = (encode(text, false)?, encode(text, true)?);
        let start = match bare.is_empty() {
            true => None,
            false => whole.windows(bare.len()).position(|window| window == bare),
        };
        let start = start.ok_or_else(|| {
            LoadError::Unsupported("special tokens are not added around the text".to_owned())
        })?;
        let (prefix, rest) = whole.split_at(start);
        Ok::<_, LoadError>((prefix.to_vec(), rest.get(bare.len()..).unwrap_or(&[]).to_vec()))
    };
    let (first, second) = (split("a")?, split("The quick brown fox.")?);
    if first != second {
        return Err(LoadError::Unsupported("special tokens depend on the text".to_owned()));
    }
    Ok(first)
}
