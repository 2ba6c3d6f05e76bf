//! From sampled tokens to what the client reads: one JSON document, or a stream of events.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use tokio::sync::mpsc::UnboundedReceiver;
use warmpath_prompt::Endpoint;

use super::generate::Running;
use super::{Failure, other};
use crate::engine::Sampled;
use crate::text::{Answer, Text};

/// What one client waits for.
pub(super) struct Job {
    pub(super) block_size: usize,
    pub(super) text: Arc<Text>,
    pub(super) endpoint: Endpoint,
    /// Whether it is a chat completion.
    pub(super) chat: bool,
    /// Makes the response's id.
    pub(super) name: String,
    pub(super) model: String,
    pub(super) created: u64,
    pub(super) prompts: Vec<Vec<u32>>,
    /// All choices for the first prompt, then all for the second, and so on.
    pub(super) choices: Vec<Choice>,
    pub(super) include_usage: bool,
    pub(super) return_token_ids: bool,
    pub(super) tokens: UnboundedReceiver<Sampled>,
    pub(super) running: Running,
}

/// One answer on its way.
pub(super) struct Choice {
    answer: Answer,
    sampled: usize,
    cached_tokens: usize,
}

impl Choice {
    pub(super) fn new(answer: Answer) -> Choice {
        Choice { answer, sampled: 0, cached_tokens: 0 }
    }

    pub(super) fn ids(&self) -> &[u32] {
        &self.answer.ids
    }

    pub(super) fn cached_tokens(&self) -> usize {
        self.cached_tokens
    }

    pub(super) fn finish_reason(&self) -> Option<&'static str> {
        let reason = if self.answer.complete { "stop" } else { "length" };
        (self.sampled == self.answer.ids.len()).then_some(reason)
    }
}

impl Job {
    /// Waits for all answers.
    pub(super) async fn collect(mut self) -> Result<Response, Failure> {
        while !self.running.done() {
            self.next().await.ok_or_else(|| Failure::internal("the engine has stopped"))?;
        }
        if let Some(body) = other::body(&self) {
            return Ok(Json(body).into_response());
        }
        let choices: Vec<Value> = (0..self.choices.len()).map(|at| self.whole(at)).collect();
        let mut body = self.frame(if self.chat { "chat.completion" } else { "text_completion" });
        body["choices"] = choices.into();
        body["usage"] = self.usage();
        body["system_fingerprint"] = "warmpath-simworker".into();
        if self.chat && self.return_token_ids {
            body["prompt_token_ids"] = json!(self.prompts.first());
        }
        Ok(Json(body).into_response())
    }

    /// Sends every token as soon as it is there.
    pub(super) fn stream(self) -> Response {
        let chunks = futures::stream::unfold(Some(self), |job| async {
            let mut job = job?;
            let Some(at) = job.next().await else {
                let stopped = std::io::Error::other("the engine has stopped");
                return Some((Err(stopped), None));
            };
            let mut chunk = job.events(at);
            if !job.running.done() {
                return Some((Ok(chunk), Some(job)));
            }
            if job.include_usage {
                let mut last = job.frame(job.chunk_object());
                last["choices"] = json!([]);
                last["usage"] = job.usage();
                chunk.push_str(&event(&last));
            }
            chunk.push_str("data: [DONE]\n\n");
            Some((Ok(chunk), None))
        });
        let kind = [(header::CONTENT_TYPE, "text/event-stream; charset=utf-8")];
        (kind, Body::from_stream(chunks)).into_response()
    }

    /// Takes the next token and says whose it was. None where the engine is gone.
    async fn next(&mut self) -> Option<usize> {
        let sampled = self.tokens.recv().await?;
        let at = (sampled.id - self.running.ids.start) as usize;
        let choice = &mut self.choices[at];
        choice.sampled += 1;
        choice.cached_tokens = sampled.cached_tokens;
        if let Some(reason) = choice.finish_reason() {
            self.running.finish(reason);
        }
        Some(at)
    }

    /// The events for the newest token of a choice; for the first one of a chat, its role before.
    fn events(&self, at: usize) -> String {
        let choice = &self.choices[at];
        let newest = choice.answer.ids[choice.sampled - 1];
        let piece = self.text.piece(newest);
        let mut body = self.frame(self.chunk_object());
        let mut events = String::new();
        if self.chat && choice.sampled == 1 {
            let delta = json!({ "role": "assistant", "content": "" });
            body["choices"] = json!([
                { "index": at, "delta": delta, "logprobs": null, "finish_reason": null }
            ]);
            body["prompt_token_ids"] =
                json!(self.return_token_ids.then_some(&self.prompts[self.prompt_of(at)]));
            events.push_str(&event(&body));
            body = self.frame(self.chunk_object());
        }
        let ids = self.return_token_ids.then_some([newest]);
        let mut part = json!({
            "index": at, "logprobs": null, "finish_reason": choice.finish_reason(),
            "token_ids": ids,
        });
        if self.chat {
            part["delta"] = json!({ "content": piece });
        } else {
            part["text"] = piece.into();
        }
        if choice.finish_reason().is_some() {
            part["stop_reason"] = Value::Null;
        }
        body["choices"] = json!([part]);
        events.push_str(&event(&body));
        events
    }

    /// A finished choice.
    fn whole(&self, at: usize) -> Value {
        let choice = &self.choices[at];
        let text: String = choice.ids().iter().map(|&id| self.text.piece(id)).collect();
        let mut part = json!({
            "index": at, "logprobs": null, "finish_reason": choice.finish_reason(),
            "stop_reason": null, "token_ids": self.return_token_ids.then_some(choice.ids()),
        });
        if self.chat {
            part["message"] = json!({
                "role": "assistant", "content": text, "refusal": null, "annotations": null,
                "audio": null, "function_call": null, "reasoning": null,
            });
        } else {
            part["text"] = text.into();
            part["prompt_token_ids"] =
                json!(self.return_token_ids.then_some(&self.prompts[self.prompt_of(at)]));
        }
        part
    }

    fn prompt_of(&self, at: usize) -> usize {
        at / (self.choices.len() / self.prompts.len())
    }

    fn chunk_object(&self) -> &'static str {
        if self.chat { "chat.completion.chunk" } else { "text_completion" }
    }

    fn frame(&self, object: &str) -> Value {
        let prefix = if self.chat { "chatcmpl" } else { "cmpl" };
        json!({
            "id": format!("{prefix}-{}", self.name), "object": object, "created": self.created,
            "model": self.model,
        })
    }

    /// As in vLLM, several prompts or choices report the hits of the last one.
    fn usage(&self) -> Value {
        let prompt: usize = self.prompts.iter().map(Vec::len).sum();
        let completion: usize = self.choices.iter().map(|choice| choice.sampled).sum();
        let cached = self.choices.last().map_or(0, |choice| choice.cached_tokens);
        let full = prompt - prompt % self.block_size;
        let created = self.chat.then(|| full.saturating_sub(cached));
        json!({
            "prompt_tokens": prompt, "completion_tokens": completion,
            "total_tokens": prompt + completion,
            "prompt_tokens_details": { "cached_tokens": cached, "created_cache_tokens": created },
        })
    }
}

fn event(body: &Value) -> String {
    format!("data: {body}\n\n")
}
