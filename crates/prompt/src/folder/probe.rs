//! What the engine finds out about a template by trying it.
//!
//! For Anthropic's requests it renders small conversations when it starts, and lets
//! the outcome decide how it converts. The same renderings are made here, once, and
//! their outcomes travel in the [`ModelSpec`]. Where a rendering fails for a reason
//! that is this crate's own, the outcome stays unknown, and requests that depend on
//! it are refused.

use super::Files;
use crate::Refusal;
use crate::json::Json;
use crate::spec::{ContentFormat, ModelSpec};
use crate::template::{Template, marks_generation, value};
use minijinja::Value;
use std::sync::Arc;

/// Efforts that the engine tells from no thinking at all.
const EFFORTS: [&str; 5] = ["low", "medium", "high", "xhigh", "max"];

/// Types of models in whose prompts the engine replaces one special token for each
/// image or video and touches nothing else before it. Others do more: Gemma 3's
/// line feeds are merged anew, Pixtral's and Phi's marks are several tokens.
const REPLACING: [&str; 7] =
    ["qwen2_vl", "qwen2_5_vl", "qwen3_vl", "qwen3_vl_moe", "mistral3", "llava", "llama4"];
/// Where their configurations name these tokens, and one that always stands before.
const MARKS: [&str; 4] =
    ["vision_start_token_id", "image_token_id", "image_token_index", "video_token_id"];

/// Fills in what of `spec` is found by trying.
pub(super) fn settle(files: &Files, spec: &mut ModelSpec) {
    let architectures = match files.config.get("architectures") {
        Some(Json::List(names)) => names.as_slice(),
        _ => &[],
    };
    let mut names = architectures.iter().filter_map(Json::as_str);
    spec.pair_scores =
        names.any(|name| name.ends_with("ForSequenceClassification") || name == "JinaForRanking");
    if REPLACING.contains(&files.model_type()) {
        let ids = MARKS.iter().filter_map(|key| match files.config.get(key) {
            Some(Json::Int(id)) => u32::try_from(*id).ok(),
            _ => None,
        });
        spec.media = ids.collect();
    }
    spec.system_first = system_first(spec);
    spec.disabled_effort = disabled_effort(spec).map(str::to_owned);
}

fn message(role: &str, content: Value) -> Value {
    value::dict(vec![(Arc::from("role"), Value::from(role)), (Arc::from("content"), content)])
}

/// Whether some template fails on a system message among the others. The engine tries
/// that without the functions that transformers gives to templates, so whatever calls
/// them fails too.
fn system_first(spec: &ModelSpec) -> Option<bool> {
    let mut first = false;
    for name in ["default", "tool_use"] {
        let Some(template) = spec.templates.get(name) else { continue };
        if marks_generation(&template.source) {
            return Some(true);
        }
        let roles = ["system", "user", "system", "user"];
        let messages = roles.map(|role| message(role, Value::from("t"))).to_vec();
        let variables = vec![
            (Arc::from("messages"), value::list(messages)),
            (Arc::from("add_generation_prompt"), Value::from(false)),
        ];
        first |= Template::new(&template.source).ok()?.fails_bare(variables)?;
    }
    (!spec.templates.is_empty()).then_some(first)
}

/// The effort that means no thinking: none, unless the template refuses that or makes
/// the same of it as of some thinking.
fn disabled_effort(spec: &ModelSpec) -> Option<&'static str> {
    let chat = spec.templates.get("default")?;
    let template = Template::new(&chat.source).ok()?;
    let content = match chat.content {
        ContentFormat::String => Value::from("Hi"),
        ContentFormat::Openai => value::list(vec![value::dict(vec![
            (Arc::from("type"), Value::from("text")),
            (Arc::from("text"), Value::from("Hi")),
        ])]),
    };
    let with = |effort: &str| {
        let mut variables: Vec<(Arc<str>, Value)> = spec
            .special_tokens
            .iter()
            .map(|(name, text)| (Arc::from(name.as_str()), Value::from(text.as_str())))
            .collect();
        variables.extend([
            (Arc::from("messages"), value::list(vec![message("user", content.clone())])),
            (Arc::from("tools"), Value::from(())),
            (Arc::from("documents"), Value::from(())),
            (Arc::from("add_generation_prompt"), Value::from(true)),
            (Arc::from("enable_thinking"), Value::from(effort != "none")),
            (Arc::from("reasoning_effort"), Value::from(effort)),
        ]);
        match template.render(variables, 0) {
            Ok(text) => Some(Some(text)),
            Err(Refusal::TemplateRaised) => Some(None),
            Err(_) => None,
        }
    };
    let Some(none) = with("none")? else { return Some("low") };
    for effort in EFFORTS {
        if with(effort)?.as_ref() == Some(&none) {
            return Some("low");
        }
    }
    Some("none")
}
