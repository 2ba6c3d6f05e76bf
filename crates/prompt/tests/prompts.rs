//! Every body of `prompts/*.jsonl`, against what vLLM made of it.
//!
//! The scripts beside them recorded it with the engine's own request models,
//! renderer and tokenizer, on the workspace's test model. Bodies that the engine
//! refuses may be refused or not; all others have the engine's ids exactly.
#![cfg(feature = "library")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use warmpath_prompt::{Encode, Endpoint, Model, ModelFolder, Refusal, parse};

fn here() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/prompts")
}

fn tiny() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/models/tiny")
}

/// The test model with another template.
fn folder(template: Option<&str>) -> ModelFolder {
    let Some(template) = template else {
        return ModelFolder::load(&tiny()).unwrap();
    };
    let copy = tempfile::tempdir().unwrap();
    for file in ["tokenizer.json", "tokenizer_config.json", "config.json"] {
        std::fs::copy(tiny().join(file), copy.path().join(file)).unwrap();
    }
    let source = here().join("templates").join(template);
    std::fs::copy(source, copy.path().join("chat_template.jinja")).unwrap();
    ModelFolder::load(copy.path()).unwrap()
}

#[derive(serde::Deserialize)]
struct Case {
    endpoint: String,
    template: Option<String>,
    body: String,
    ids: Option<Vec<Vec<u32>>>,
}

const RECORDED: [&str; 3] = ["expected.jsonl", "endpoints.jsonl", "families.jsonl"];

fn cases() -> Vec<Case> {
    let texts = RECORDED.map(|file| std::fs::read_to_string(here().join(file)).unwrap());
    let lines = texts.iter().flat_map(|text| text.lines());
    lines.map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn endpoint(name: &str) -> Endpoint {
    match name {
        "chat" => Endpoint::Chat,
        "completions" => Endpoint::Completions,
        "responses" => Endpoint::Responses,
        "messages" => Endpoint::Messages,
        "embeddings" => Endpoint::Embeddings,
        "pooling" => Endpoint::Pooling,
        "classify" => Endpoint::Classify,
        "score" => Endpoint::Score,
        "rerank" => Endpoint::Rerank,
        "generate" => Endpoint::Generate,
        _ => panic!("{name}"),
    }
}

/// What is refused by name, though the engine takes it.
const UNSUPPORTED: [&str; 6] = [
    "\"truncation\": ",
    "\"type\": \"tool_addition\"",
    "\"id\": \"\", \"name\": \"weather\"",
    "max_tokens_per_",
    "\"type\": \"web_search_call\"",
    "\"tool_use\", \"name\"",
];

fn check(encoder: impl Fn(&ModelFolder) -> Box<dyn Encode>) {
    let mut models: BTreeMap<Option<String>, Model> = BTreeMap::new();
    let mut wrong = Vec::new();
    let mut matched = 0;
    for case in cases() {
        let model = models.entry(case.template.clone()).or_insert_with(|| {
            let folder = folder(case.template.as_deref());
            Model::new(folder.spec.clone(), encoder(&folder)).unwrap()
        });
        let found: Result<_, Refusal> = parse(endpoint(&case.endpoint), case.body.as_bytes())
            .and_then(|request| model.tokenize(&request, 1_795_000_000));
        match (case.ids, found) {
            (None, _) => {}
            (Some(ids), Ok(found)) if found.ids == ids => matched += 1,
            // The renderer makes them, the scheduler refuses them.
            (Some(ids), Err(Refusal::Invalid(_)))
                if ids.is_empty() || ids.iter().any(Vec::is_empty) => {}
            // It prints `repr` of text that needs Python's Unicode tables.
            (Some(_), Err(Refusal::Template(_)))
                if case.template.as_deref() == Some("dump.jinja")
                    && (!case.body.is_ascii() || case.body.contains("\\u")) => {}
            (Some(_), Err(Refusal::Unsupported(_)))
                if UNSUPPORTED.iter().any(|known| case.body.contains(known)) => {}
            (Some(_), found) => {
                let found = found.map(|prompts| prompts.ids.len());
                let Case { endpoint, template, body, .. } = case;
                wrong.push(format!("{endpoint} {template:?} {body} {found:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{matched} match, {} do not:\n{}", wrong.len(), wrong.join("\n"));
    assert!(matched > 1200, "only {matched} bodies were compared");
}

#[test]
fn the_library_makes_the_engines_ids() {
    check(|folder| Box::new(folder.encoder()));
}

#[test]
fn the_table_makes_the_engines_ids() {
    // All templates share one tokenizer.
    let table = folder(None).table().unwrap();
    check(|_| Box::new(warmpath_prompt::TableEncoder::from_bytes(table.clone()).unwrap()));
}
