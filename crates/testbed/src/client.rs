//! An OpenAI client that measures.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use bytes::Bytes;
use futures::StreamExt;
use reqwest::header::{CONTENT_TYPE, HeaderMap};
use serde_json::Value;

/// A client of one gateway or engine.
#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    base: String,
}

/// Token counts as the engine reported them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Tokens of the prompt.
    pub prompt_tokens: u64,
    /// Tokens of the answer.
    pub completion_tokens: u64,
    /// Prompt tokens found in the engine's cache; absent where it does not say.
    pub cached_tokens: Option<u64>,
}

/// One answer.
#[derive(Clone, Debug)]
pub struct Reply {
    /// HTTP status.
    pub status: u16,
    /// Response headers.
    pub headers: HeaderMap,
    /// The generated text; the whole body where the status is not 200.
    pub text: String,
    /// Token counts, where the answer had them.
    pub usage: Option<Usage>,
    /// From sending to the first piece of the answer; of the whole answer where
    /// it was not streamed.
    pub ttft: Duration,
    /// From sending to the end.
    pub total: Duration,
}

impl Reply {
    /// A response header, where present and text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

impl Client {
    /// An HTTP/1.1 client of `http://host:port`.
    pub fn new(base: &str) -> Self {
        Self { http: reqwest::Client::new(), base: base.to_owned() }
    }

    /// A client that speaks HTTP/2 without TLS.
    pub fn http2(base: &str) -> Result<Self> {
        let http = reqwest::Client::builder().http2_prior_knowledge().build()?;
        Ok(Self { http, base: base.to_owned() })
    }

    /// A chat completion; streamed where the body says so.
    pub async fn chat(&self, body: &Value) -> Result<Reply> {
        self.send("/v1/chat/completions", body, &[]).await
    }

    /// A text completion.
    pub async fn completion(&self, body: &Value) -> Result<Reply> {
        self.send("/v1/completions", body, &[]).await
    }

    /// A JSON body to any path, with more headers.
    pub async fn send(&self, path: &str, body: &Value, headers: &[(&str, &str)]) -> Result<Reply> {
        self.send_bytes(path, body.to_string().into(), headers).await
    }

    /// Any body, labelled JSON, to any path.
    pub async fn send_bytes(
        &self,
        path: &str,
        body: Bytes,
        headers: &[(&str, &str)],
    ) -> Result<Reply> {
        let request = self.http.post(format!("{}{path}", self.base));
        let request = request.header(CONTENT_TYPE, "application/json").body(body);
        self.receive(request, headers).await
    }

    /// A GET of any path.
    pub async fn get(&self, path: &str, headers: &[(&str, &str)]) -> Result<Reply> {
        self.receive(self.http.get(format!("{}{path}", self.base)), headers).await
    }

    async fn receive(
        &self,
        mut request: reqwest::RequestBuilder,
        headers: &[(&str, &str)],
    ) -> Result<Reply> {
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let start = Instant::now();
        let response = request.send().await.context("no answer")?;
        let status = response.status().as_u16();
        let headers = response.headers().clone();
        let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
        let streamed = kind.is_some_and(|kind| kind.starts_with("text/event-stream"));
        let mut reply = Reply {
            status,
            headers,
            text: String::new(),
            usage: None,
            ttft: Duration::ZERO,
            total: Duration::ZERO,
        };
        if streamed {
            reply.read_events(response, start).await?;
        } else {
            let body = response.bytes().await.context("the answer broke off")?;
            reply.read_whole(&body);
        }
        reply.total = start.elapsed();
        if !streamed {
            reply.ttft = reply.total;
        }
        Ok(reply)
    }
}

impl Reply {
    async fn read_events(&mut self, response: reqwest::Response, start: Instant) -> Result<()> {
        let mut stream = response.bytes_stream();
        let mut pending = Vec::new();
        let mut done = false;
        while let Some(piece) = stream.next().await {
            pending.extend_from_slice(&piece.context("the answer broke off")?);
            while let Some(end) = pending.iter().position(|&byte| byte == b'\n') {
                let line: Vec<u8> = pending.drain(..=end).collect();
                let Some(data) = line.strip_prefix(b"data: ").map(<[u8]>::trim_ascii_end) else {
                    continue;
                };
                if self.ttft.is_zero() {
                    self.ttft = start.elapsed();
                }
                if data == b"[DONE]" {
                    done = true;
                } else {
                    self.take(&serde_json::from_slice(data).context("an event is not JSON")?);
                }
            }
        }
        anyhow::ensure!(done, "the stream ended without [DONE]");
        Ok(())
    }

    fn read_whole(&mut self, body: &[u8]) {
        match serde_json::from_slice::<Value>(body) {
            Ok(value) if self.status == 200 && value["choices"].is_array() => self.take(&value),
            _ => self.text = String::from_utf8_lossy(body).into_owned(),
        }
    }

    fn take(&mut self, value: &Value) {
        let choice = &value["choices"][0];
        let pieces = [&choice["delta"]["content"], &choice["message"]["content"], &choice["text"]];
        self.text.extend(pieces.into_iter().filter_map(Value::as_str));
        let usage = &value["usage"];
        if let Some(prompt_tokens) = usage["prompt_tokens"].as_u64() {
            self.usage = Some(Usage {
                prompt_tokens,
                completion_tokens: usage["completion_tokens"].as_u64().unwrap_or_default(),
                cached_tokens: usage["prompt_tokens_details"]["cached_tokens"].as_u64(),
            });
        }
    }
}
