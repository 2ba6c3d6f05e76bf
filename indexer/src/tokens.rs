//! `warmpath-indexer tokens`: what a body or a text becomes, to compare with an engine.

use std::io::{self, BufRead, Write};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use warmpath_prompt::{Encode, Endpoint, Model, ModelFolder, TableEncoder};

use crate::cli::Engine;

/// Why nothing can be tokenized.
#[derive(Debug, thiserror::Error)]
pub enum TokensError {
    /// The folder can not be used.
    #[error("{0}")]
    Load(#[from] warmpath_prompt::LoadError),
    /// Its template can not be used.
    #[error("{0}")]
    Model(#[from] warmpath_prompt::ModelError),
    /// Its table can not be read back.
    #[error("{0}")]
    Table(#[from] warmpath_prompt::TableError),
    /// Stdin or stdout failed.
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// Answers each line of `input` with one of `output`.
pub fn run(
    path: &Path,
    engine: Engine,
    input: impl BufRead,
    output: impl Write,
) -> Result<(), TokensError> {
    let folder = ModelFolder::load(path)?;
    match engine {
        Engine::Library => {
            let encoder = folder.encoder();
            let model = Model::new(folder.spec.clone(), Box::new(encoder.clone()))?;
            answer(&model, &encoder, input, output)
        }
        Engine::Table => {
            let table = folder.table()?;
            let encoder = TableEncoder::from_bytes(table.clone())?;
            let model =
                Model::new(folder.spec.clone(), Box::new(TableEncoder::from_bytes(table)?))?;
            answer(&model, &encoder, input, output)
        }
    }
}

fn answer(
    model: &Model,
    encoder: &dyn Encode,
    input: impl BufRead,
    mut output: impl Write,
) -> Result<(), TokensError> {
    for line in input.split(b'\n') {
        let line = line?;
        if line.trim_ascii().is_empty() {
            continue;
        }
        let answer = match ids(model, encoder, &line) {
            Ok(answer) => answer,
            Err(error) => json!({ "error": error }),
        };
        writeln!(output, "{answer}")?;
    }
    output.flush()?;
    Ok(())
}

/// Where a body goes: where its `path` says, else what its own fields leave no doubt of.
fn endpoint(body: &Value) -> Result<Endpoint, String> {
    match body.get("path").and_then(Value::as_str) {
        Some(path) => Endpoint::of_path(path)
            .ok_or_else(|| format!("{path:?} is no path of a known endpoint")),
        None if body.get("messages").is_some() => Ok(Endpoint::Chat),
        None if body.get("prompt").is_some() => Ok(Endpoint::Completions),
        None => {
            Err("a body without messages or prompt needs a path, such as \"/v1/responses\"".into())
        }
    }
}

fn ids(model: &Model, encoder: &dyn Encode, line: &[u8]) -> Result<Value, String> {
    let value: Value =
        serde_json::from_slice(line).map_err(|error| format!("the line is not JSON: {error}"))?;
    if let Some(text) = value.get("text").and_then(Value::as_str) {
        let mut ids = Vec::new();
        encoder.encode(text, &mut ids).map_err(|error| error.to_string())?;
        return Ok(json!({ "ids": ids }));
    }
    let endpoint = endpoint(&value)?;
    let request = warmpath_prompt::parse(endpoint, line).map_err(|error| error.to_string())?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let prompts = model.tokenize(&request, now).map_err(|error| error.to_string())?;
    Ok(match prompts.ids.as_slice() {
        [ids] => json!({ "ids": ids }),
        many => json!({ "ids": many.first(), "prompts": many }),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_goes_where_its_path_or_its_fields_say() {
        for (body, expected) in [
            (json!({"messages": []}), Some(Endpoint::Chat)),
            (json!({"prompt": "x"}), Some(Endpoint::Completions)),
            (json!({"path": "/v1/messages", "messages": []}), Some(Endpoint::Messages)),
            (json!({"path": "/v1/responses", "input": "x"}), Some(Endpoint::Responses)),
            (json!({"path": "/v1/files", "input": "x"}), None),
            (json!({"input": "x"}), None),
        ] {
            assert_eq!(endpoint(&body).ok(), expected, "{body}");
        }
    }
}
