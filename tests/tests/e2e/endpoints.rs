//! Endpoints other than chat and completions, and chats with images: each through
//! Envoy to the worker that holds the prompt.

use std::path::Path;

use anyhow::Result;
use serde_json::{Value, json};
use warmpath_testbed::stack::{GatewayOptions, Stack, StackOptions, tiny_model};

use crate::support::{eventually, long_text, routed};

/// Sends the body until its prefix is found, which has to be where it went first.
/// Returns the answer.
async fn follows_its_prefix(stack: &Stack, path: &str, body: &Value) -> Result<Value> {
    let client = stack.gateway.client();
    let first = client.send(path, body, &[]).await?;
    assert_eq!(first.status, 200, "{}", first.text);
    assert!(!routed(&first).1.starts_with("fallback"), "{:?}", routed(&first));
    let worker = routed(&first).0.to_owned();
    let mut answer = Value::Null;
    eventually("a decision for the prefix", async || {
        let pin = [("x-warmpath-worker", worker.as_str())];
        let held = client.send(path, body, &pin).await?;
        let overlap = held.header("x-warmpath-overlap").unwrap_or("0/0").to_owned();
        if overlap.starts_with("0/") {
            return Ok(false);
        }
        let again = client.send(path, body, &[]).await?;
        answer = serde_json::from_str(&again.text).unwrap_or_default();
        assert_eq!(routed(&again), (worker.as_str(), "prefix"), "{path}");
        Ok(true)
    })
    .await?;
    Ok(answer)
}

#[tokio::test(flavor = "multi_thread")]
async fn responses_messages_and_embeddings_return_to_the_holder_of_their_prompt() -> Result<()> {
    let stack = Stack::start(StackOptions::default()).await?;
    let text = long_text("lighthouses");
    let body = json!({
        "model": "tiny", "max_output_tokens": 2, "instructions": "Answer briefly.",
        "input": [{"role": "user", "content": [{"type": "input_text", "text": text}]}],
    });
    let answer = follows_its_prefix(&stack, "/v1/responses", &body).await?;
    let usage = &answer["usage"];
    let cached = usage["input_tokens_details"]["cached_tokens"].as_u64().unwrap_or_default();
    assert!(2 * cached > usage["input_tokens"].as_u64().unwrap_or(u64::MAX), "{answer}");

    let text = long_text("aqueducts");
    let body = json!({
        "model": "tiny", "max_tokens": 2, "system": "Answer briefly.",
        "messages": [{"role": "user", "content": [{"type": "text", "text": text}]}],
        "tools": [{"name": "look_up", "input_schema": {"properties": {}}}],
    });
    let answer = follows_its_prefix(&stack, "/v1/messages", &body).await?;
    let usage = &answer["usage"];
    assert!(usage["cache_read_input_tokens"].as_u64() > usage["input_tokens"].as_u64(), "{answer}");

    let body = json!({"model": "tiny", "input": [long_text("viaducts"), "and another"]});
    let answer = follows_its_prefix(&stack, "/v1/embeddings", &body).await?;
    assert_eq!(answer["data"].as_array().map(Vec::len), Some(2), "{answer}");
    let usage = &answer["usage"];
    let cached = usage["prompt_tokens_details"]["cached_tokens"].as_u64().unwrap_or_default();
    assert!(2 * cached > usage["prompt_tokens"].as_u64().unwrap_or(u64::MAX), "{answer}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chat_with_an_image_is_routed_by_what_comes_before_it() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let vision =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/prompt/tests/prompts/vision");
    for entry in std::fs::read_dir(vision)? {
        let entry = entry?;
        std::fs::copy(entry.path(), folder.path().join(entry.file_name()))?;
    }
    std::fs::copy(tiny_model().join("tokenizer.json"), folder.path().join("tokenizer.json"))?;
    let mut options = StackOptions::default();
    options.sim.model_path = folder.path().to_owned();
    options.gateway = GatewayOptions::new("tiny", folder.path());
    let stack = Stack::start(options).await?;
    let text = long_text("paintings");
    let image = json!({"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}});
    let body = json!({
        "model": "tiny", "max_tokens": 2,
        "messages": [{"role": "user", "content": [{"type": "text", "text": text}, image]}],
    });
    follows_its_prefix(&stack, "/v1/chat/completions", &body).await?;
    Ok(())
}
