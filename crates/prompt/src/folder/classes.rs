//! Which tokenizer the engine builds from the folder's files.
//!
//! transformers 5 takes `tokenizer.json` as it is only for its generic class.
//! Specialised classes build normalizer and pre-tokenizer in code and take no more
//! than vocabulary, merges and post-processor from the file. For those known here
//! the file must say what the code builds; the others are refused.

use super::{Files, LoadError, TOKENIZER, optional_dict};
use crate::json::{Dict, Json};
use std::borrow::Cow;

/// The classes told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// `tokenizer.json` as it is.
    Generic,
    /// Qwen2 and Qwen3.
    Qwen2,
    /// Qwen3.5.
    Qwen35,
    /// Llama 2 and what descends from its SentencePiece model.
    Llama,
}

impl Class {
    /// Special tokens that the class sets where the configuration is silent.
    pub(super) fn default_tokens(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Class::Generic => &[],
            Class::Qwen2 | Class::Qwen35 => &[
                ("unk_token", "<|endoftext|>"),
                ("eos_token", "<|endoftext|>"),
                ("pad_token", "<|endoftext|>"),
            ],
            Class::Llama => &[("unk_token", "<unk>"), ("bos_token", "<s>"), ("eos_token", "</s>")],
        }
    }

    fn named(name: &str) -> Option<Class> {
        match name {
            "PreTrainedTokenizerFast"
            | "PreTrainedTokenizer"
            | "TokenizersBackend"
            | "PythonBackend"
            | "BloomTokenizer" => Some(Class::Generic),
            "Qwen2Tokenizer" => Some(Class::Qwen2),
            "Qwen3_5Tokenizer" => Some(Class::Qwen35),
            "LlamaTokenizer" => Some(Class::Llama),
            _ => None,
        }
    }
}

/// Model types for which the class named in the folder is ignored for the generic one.
const GENERIC_TYPES: [&str; 36] = [
    "arctic",
    "chameleon",
    "deepseek_v2",
    "deepseek_v3",
    "deepseek_vl",
    "deepseek_vl_v2",
    "ernie4_5",
    "ernie4_5_moe",
    "fuyu",
    "glm",
    "glm4",
    "glm4_moe",
    "glm4_moe_lite",
    "glm4v",
    "glm4v_moe",
    "h2ovl_chat",
    "hyperclovax",
    "internlm2",
    "jamba",
    "janus",
    "llava",
    "llava_next",
    "minicpm3",
    "minicpmv",
    "minimax_m2",
    "molmo",
    "molmo2",
    "nemotron",
    "opencua",
    "paddleocr_vl",
    "phi3",
    "phi3_v",
    "phimoe",
    "smolvlm",
    "step3p5",
    "step3_vl",
];
/// Model types with a specialised class of their own, whatever the folder says.
const OWN_CLASS: [(&str, Class); 4] = [
    ("qwen2", Class::Qwen2),
    ("qwen3_5", Class::Qwen35),
    ("qwen3_5_moe", Class::Qwen35),
    ("qwen3_5_moe_text", Class::Qwen35),
];
/// Architectures whose tokenizer or chat format is code in the engine.
const OWN_TOKENIZER: [&str; 8] = [
    "MoonshotKimiaForCausalLM",
    "KimiK3ForConditionalGeneration",
    "DeepseekV32ForCausalLM",
    "DeepseekV4ForCausalLM",
    "DeepseekV4ForConditionalGeneration",
    "DeepseekV41ForCausalLM",
    "InklingForCausalLM",
    "InklingForConditionalGeneration",
];

/// Where sentence-transformers say how texts are prepared.
const SENTENCES: [&str; 7] = [
    "sentence_bert_config.json",
    "sentence_roberta_config.json",
    "sentence_distilbert_config.json",
    "sentence_camembert_config.json",
    "sentence_albert_config.json",
    "sentence_xlm-roberta_config.json",
    "sentence_xlnet_config.json",
];

const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN35: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// The class that the engine uses, if it is known and built as the file says.
pub(super) fn check(files: &Files) -> Result<Class, LoadError> {
    let unsupported = |reason: String| Err(LoadError::Unsupported(reason));
    if let Some(Json::List(architectures)) = files.config.get("architectures") {
        let own = architectures
            .iter()
            .filter_map(Json::as_str)
            .find(|architecture| OWN_TOKENIZER.contains(architecture));
        if let Some(architecture) = own {
            return unsupported(format!("the engine has code of its own for {architecture}"));
        }
    }
    if files.has("tekken.json") {
        return unsupported("the engine uses Mistral's own tokenizer here".to_owned());
    }
    let config = &files.tokenizer_config;
    if config.given("auto_map").is_some() {
        return unsupported("auto_map in tokenizer_config.json names code".to_owned());
    }
    if matches!(config.get("split_special_tokens"), Some(Json::Bool(true))) {
        return unsupported("split_special_tokens is on".to_owned());
    }
    if matches!(config.get("fix_mistral_regex"), Some(Json::Bool(true))) {
        return unsupported("fix_mistral_regex replaces the pattern of tokenizer.json".to_owned());
    }
    for name in SENTENCES {
        let sentences = optional_dict(&files.folder.join(name))?;
        if matches!(sentences.get("do_lower_case"), Some(Json::Bool(true))) {
            return unsupported(format!("{name} has texts lowered first"));
        }
    }
    let class = class(files)?;
    let fits = match class {
        Class::Generic => true,
        Class::Qwen2 => is_qwen(&files.tokenizer, QWEN2) && are_described(files),
        Class::Qwen35 => is_qwen(&files.tokenizer, QWEN35) && are_described(files),
        Class::Llama => is_llama(&files.tokenizer) && are_described(files),
    };
    if !fits {
        return unsupported(format!(
            "transformers builds a {class:?} tokenizer in code, other than tokenizer.json describes"
        ));
    }
    Ok(class)
}

fn class(files: &Files) -> Result<Class, LoadError> {
    let model_type = files.model_type();
    if let Some((_, class)) = OWN_CLASS.iter().find(|(name, _)| *name == model_type) {
        return Ok(*class);
    }
    let named = files
        .tokenizer_config
        .given("tokenizer_class")
        .or_else(|| files.config.given("tokenizer_class"))
        .and_then(Json::as_str);
    match named {
        _ if GENERIC_TYPES.contains(&model_type) => Ok(Class::Generic),
        None if model_type.starts_with("qwen3") => Ok(Class::Qwen2),
        None => Ok(Class::Generic),
        Some("PreTrainedTokenizerFast") => Ok(Class::Generic),
        Some(name) => Class::named(name.strip_suffix("Fast").unwrap_or(name)).ok_or_else(|| {
            LoadError::Unsupported(format!("transformers builds a {name} in code of its own"))
        }),
    }
}

fn str_at<'a>(dict: &'a Dict, key: &str) -> Option<&'a str> {
    dict.get(key).and_then(Json::as_str)
}

fn is_off(dict: &Dict, key: &str) -> bool {
    matches!(dict.get(key), None | Some(Json::Null | Json::Bool(false)))
}

fn is_bpe(tokenizer: &Dict, byte_fallback: bool, fuse_unk: bool) -> bool {
    let Some(model) = tokenizer.get("model").and_then(Json::as_dict) else { return false };
    let nothing = |key: &str| {
        matches!(model.get(key), None | Some(Json::Null)) || str_at(model, key) == Some("")
    };
    str_at(model, "type") == Some("BPE")
        && nothing("dropout")
        && nothing("unk_token") != fuse_unk
        && nothing("continuing_subword_prefix")
        && nothing("end_of_word_suffix")
        && is_off(model, "byte_fallback") != byte_fallback
        && is_off(model, "fuse_unk") != fuse_unk
        && is_off(model, "ignore_merges")
}

fn is_qwen(tokenizer: &Dict, regex: &str) -> bool {
    let steps = tokenizer.get("pre_tokenizer").and_then(Json::as_dict);
    let Some(Json::List(steps)) = steps.and_then(|steps| steps.get("pretokenizers")) else {
        return false;
    };
    let [Json::Dict(split), Json::Dict(bytes)] = steps.as_slice() else { return false };
    let pattern = split.get("pattern").and_then(Json::as_dict);
    let normalizer = tokenizer.get("normalizer").and_then(Json::as_dict);
    is_bpe(tokenizer, false, false)
        && normalizer.and_then(|dict| str_at(dict, "type")) == Some("NFC")
        && str_at(split, "type") == Some("Split")
        && pattern.and_then(|dict| str_at(dict, "Regex")) == Some(regex)
        && str_at(split, "behavior") == Some("Isolated")
        && is_off(split, "invert")
        && str_at(bytes, "type") == Some("ByteLevel")
        && is_off(bytes, "add_prefix_space")
        && is_off(bytes, "use_regex")
}

fn is_llama(tokenizer: &Dict) -> bool {
    let Some(steps) = tokenizer.get("pre_tokenizer").and_then(Json::as_dict) else {
        return false;
    };
    is_bpe(tokenizer, true, true)
        && tokenizer.given("normalizer").is_none()
        && str_at(steps, "type") == Some("Metaspace")
        && str_at(steps, "replacement") == Some("▁")
        && str_at(steps, "prepend_scheme") == Some("first")
        && is_off(steps, "split")
}

/// Whether each added token of `tokenizer_config.json` is in `tokenizer.json` as
/// well: those the two files agree on are what a class built in code knows.
fn are_described(files: &Files) -> bool {
    let Some(Json::Dict(configured)) = files.tokenizer_config.get("added_tokens_decoder") else {
        return true;
    };
    let Some(Json::List(added)) = files.tokenizer.get("added_tokens") else {
        return configured.iter().next().is_none();
    };
    configured.iter().all(|(id, token)| {
        let keys = ["content", "lstrip", "normalized", "rstrip", "single_word", "special"];
        let same = |other: &&Dict| {
            matches!(other.get("id"), Some(Json::Int(own)) if own.to_string() == id)
                && token
                    .as_dict()
                    .is_some_and(|one| keys.iter().all(|key| one.get(key) == other.get(key)))
        };
        added.iter().filter_map(Json::as_dict).any(|other| same(&other))
    })
}

/// The text of `tokenizer.json` as the class reads it: one that is built in code
/// does not see the added tokens that `tokenizer_config.json` leaves out.
pub(super) fn tokenizer_text(files: &Files, class: Class) -> Result<Cow<'_, str>, LoadError> {
    let whole = Ok(Cow::Borrowed(files.tokenizer_text.as_str()));
    let Some(Json::Dict(configured)) = files.tokenizer_config.get("added_tokens_decoder") else {
        return whole;
    };
    if class == Class::Generic {
        return whole;
    }
    let unclear =
        |error: String| LoadError::Content { path: files.folder.join(TOKENIZER), reason: error };
    let mut tree: serde_json::Value =
        serde_json::from_str(&files.tokenizer_text).map_err(|error| unclear(error.to_string()))?;
    let Some(added) = tree.get_mut("added_tokens").and_then(|added| added.as_array_mut()) else {
        return whole;
    };
    let all = added.len();
    added.retain(|token| configured.get(&token["id"].to_string()).is_some());
    if added.len() == all {
        return whole;
    }
    // The library numbers added tokens in order, so only the last can be missing.
    let ids: Vec<u64> = added.iter().filter_map(|token| token["id"].as_u64()).collect();
    let is_row = ids.iter().zip(ids.iter().skip(1)).all(|(one, next)| one + 1 == *next);
    let words = files.tokenizer.get("model").and_then(Json::as_dict);
    let words =
        words.and_then(|model| model.get("vocab")?.as_dict()).map_or(0, |v| v.entries().len());
    if !is_row || ids.first().is_some_and(|first| *first != words as u64) {
        return Err(LoadError::Unsupported(
            "tokenizer_config.json leaves out added tokens between others".to_owned(),
        ));
    }
    Ok(Cow::Owned(tree.to_string()))
}
