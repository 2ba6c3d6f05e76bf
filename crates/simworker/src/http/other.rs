//! Answers of endpoints other than chat and completions, as vLLM forms them.

use serde_json::{Value, json};
use warmpath_prompt::Endpoint;

use super::answer::{Choice, Job};

/// Whether an endpoint samples tokens.
pub(super) fn generates(endpoint: Endpoint) -> bool {
    matches!(
        endpoint,
        Endpoint::Chat
            | Endpoint::Completions
            | Endpoint::Responses
            | Endpoint::Messages
            | Endpoint::Generate
    )
}

/// The whole answer; nothing for chat and completions, which have their own.
pub(super) fn body(job: &Job) -> Option<Value> {
    let text =
        |choice: &Choice| -> String { choice.ids().iter().map(|&id| job.text.piece(id)).collect() };
    let first = job.choices.first()?;
    let prompt: usize = job.prompts.iter().map(Vec::len).sum();
    let sampled = first.ids().len();
    let cached = first.cached_tokens();
    let total: usize = job.choices.iter().map(Choice::cached_tokens).sum();
    let usage = json!({
        "prompt_tokens": prompt, "total_tokens": prompt, "completion_tokens": 0,
        "prompt_tokens_details": { "cached_tokens": total },
    });
    let pooled = |object: &str, item: &dyn Fn(usize) -> Value| {
        let items: Vec<Value> = (0..job.prompts.len()).map(item).collect();
        json!({
            "id": format!("{object}-{}", job.name), "object": "list", "created": job.created,
            "model": job.model, "data": items, "usage": usage,
        })
    };
    Some(match job.endpoint {
        Endpoint::Chat | Endpoint::Completions => return None,
        Endpoint::Responses => json!({
            "id": format!("resp_{}", job.name), "object": "response", "created_at": job.created,
            "model": job.model, "status": "completed",
            "output": [{
                "type": "message", "id": format!("msg_{}", job.name), "role": "assistant",
                "status": "completed",
                "content": [{ "type": "output_text", "text": text(first), "annotations": [] }],
            }],
            "usage": {
                "input_tokens": prompt, "output_tokens": sampled, "total_tokens": prompt + sampled,
                "input_tokens_details": { "cached_tokens": cached },
            },
        }),
        Endpoint::Messages => json!({
            "id": format!("chatcmpl-{}", job.name), "type": "message", "role": "assistant",
            "model": job.model, "content": [{ "type": "text", "text": text(first) }],
            "stop_reason": match first.finish_reason() {
                Some("stop") => "end_turn",
                _ => "max_tokens",
            },
            "usage": {
                "input_tokens": prompt - cached, "output_tokens": sampled,
                "cache_read_input_tokens": cached,
            },
        }),
        Endpoint::Generate => json!({
            "request_id": job.name,
            "choices": [{
                "index": 0, "token_ids": first.ids(), "finish_reason": first.finish_reason(),
            }],
            "usage": {
                "prompt_tokens": prompt, "completion_tokens": sampled,
                "total_tokens": prompt + sampled,
                "prompt_tokens_details": { "cached_tokens": cached },
            },
        }),
        Endpoint::Embeddings => pooled(
            "embd",
            &|at| json!({ "index": at, "object": "embedding", "embedding": [0.6, 0.8] }),
        ),
        Endpoint::Pooling => {
            pooled("pool", &|at| json!({ "index": at, "object": "pooling", "data": [0.6, 0.8] }))
        }
        Endpoint::Classify => pooled(
            "classify",
            &|at| json!({ "index": at, "label": "LABEL_0", "probs": [0.75, 0.25], "num_classes": 2 }),
        ),
        Endpoint::Score => {
            pooled("embd", &|at| json!({ "index": at, "object": "score", "score": 0.5 }))
        }
        Endpoint::Rerank => json!({
            "id": format!("rerank-{}", job.name), "model": job.model, "results": [],
            "usage": usage,
        }),
    })
}
