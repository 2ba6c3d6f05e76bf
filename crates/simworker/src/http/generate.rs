//! From a body to answers that are being computed.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::http::HeaderMap;
use axum::response::Response;
use tokio::sync::mpsc;
use warmpath_prompt::Endpoint;

use super::answer::{Choice, Job};
use super::params::Params;
use super::{App, FINISH_REASONS, Failure, other, unix_seconds};
use crate::driver::{Command, Rank};
use crate::engine::{Adapter, Request, Sampled, Scope};
use crate::text::Length;

/// Answers one request with a prompt.
pub(super) async fn generate(
    app: Arc<App>,
    endpoint: Endpoint,
    headers: &HeaderMap,
    body: &[u8],
) -> Result<Response, Failure> {
    let params = Params::parse(body)?;
    if params.stream() && !matches!(endpoint, Endpoint::Chat | Endpoint::Completions) {
        return Err(Failure::bad_request("only chats and completions are streamed here"));
    }
    let (request, adapter) = admit(&app, endpoint, &params, body)?;
    let rank = choose_rank(&app, headers)?;
    let scope = Arc::new(Scope {
        adapter,
        cache_salt: request.cache_salt.clone(),
        session: header(headers, "x-session-id").map(str::to_owned),
    });
    let model = request.model.clone();
    let prompts = tokenize(&app, request).await?;
    for prompt in &prompts {
        check_length(&app, &params, prompt.len())?;
    }

    let choices: Vec<Choice> = (0..prompts.len() * params.choices())
        .map(|index| {
            let prompt = index / params.choices();
            let room = app.options.max_model_len - prompts[prompt].len();
            let length = Length {
                // What is only embedded samples nothing; one token stands for the end.
                max: if other::generates(endpoint) { params.max_tokens(room) } else { 1 },
                min: params.min_tokens(),
                ignore_end: params.ignore_eos(),
            };
            let nth = (index % params.choices()) as u64;
            Choice::new(app.text.answer(&prompts[prompt], nth, app.options.seed, length))
        })
        .collect();
    let first = app.ids(choices.len());
    let running = Running { rank, ids: first..first + choices.len() as u64, open: choices.len() };
    let (sender, tokens) = mpsc::unbounded_channel();
    for (index, choice) in choices.iter().enumerate() {
        running.submit(
            sender.clone(),
            Request {
                id: first + index as u64,
                prompt: prompts[index / params.choices()].clone(),
                answer: choice.ids().to_vec(),
                scope: scope.clone(),
                report_hits: params.report_hits(),
            },
        )?;
    }
    let name = header(headers, "x-request-id").map(str::to_owned);
    let name = name.unwrap_or_else(|| {
        format!("{:016x}", warmpath_blocks::sequence_hash(app.started.to_bits(), first))
    });
    let job = Job {
        block_size: app.options.block_size,
        text: app.text.clone(),
        chat: endpoint == Endpoint::Chat,
        endpoint,
        name,
        model,
        created: unix_seconds() as u64,
        prompts,
        choices,
        include_usage: params.include_usage(),
        return_token_ids: params.return_token_ids(),
        tokens,
        running,
    };
    if params.stream() { Ok(job.stream()) } else { job.collect().await }
}

/// The prompt side of a body, and the adapter that its model name stands for.
pub(super) fn admit(
    app: &App,
    endpoint: Endpoint,
    params: &Params,
    body: &[u8],
) -> Result<(warmpath_prompt::Request, Option<Adapter>), Failure> {
    let served = app.options.model_name();
    let name = params.model.as_deref().unwrap_or(&served);
    let number = app.options.lora.iter().position(|adapter| adapter == name);
    if number.is_none() && name != served {
        return Err(Failure::unknown_model(name));
    }
    let adapter = number.map(|at| Adapter { id: at as u64 + 1, name: name.to_owned() });
    let named = params.model.is_none().then(|| with_model(body, &served)).flatten();
    let request = warmpath_prompt::parse(endpoint, named.as_deref().unwrap_or(body))
        .map_err(|refusal| Failure::bad_request(refusal.to_string()))?;
    Ok((request, adapter))
}

/// Token ids of every prompt of the request.
pub(super) async fn tokenize(
    app: &App,
    request: warmpath_prompt::Request,
) -> Result<Vec<Vec<u32>>, Failure> {
    let ids = app.text.tokenize(request).await;
    let ids = ids.map_err(|error| Failure::internal(format!("tokenizing failed: {error}")))?;
    ids.map_err(|refusal| Failure::bad_request(refusal.to_string()))
}

/// The body with a model name, which vLLM does not insist on and the prompt crate does.
///
/// The text is spliced, not parsed and written anew, so that nothing else changes.
fn with_model(body: &[u8], name: &str) -> Option<Vec<u8>> {
    let open = body.iter().position(|&byte| byte == b'{')?;
    let (head, tail) = body.split_at(open + 1);
    let empty = tail.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'}');
    let comma = if empty { "" } else { "," };
    let field = format!("\"model\":{}{comma}", serde_json::Value::from(name));
    Some([head, field.as_bytes(), tail].concat())
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// The rank that the client names, else the one with the least load.
fn choose_rank(app: &App, headers: &HeaderMap) -> Result<Arc<Rank>, Failure> {
    let Some(value) = header(headers, "x-data-parallel-rank") else {
        return Ok(app.least_loaded().clone());
    };
    let count = app.ranks.len();
    let number: i64 = value.trim().parse().map_err(|_| {
        Failure::bad_request(format!("X-data-parallel-rank must be an integer, not {value:?}"))
    })?;
    let rank = usize::try_from(number).ok().and_then(|rank| app.ranks.get(rank));
    let range = || format!("data_parallel_rank {number} is out of range [0, {count}).");
    rank.cloned().ok_or_else(|| Failure::bad_request(range()))
}

fn check_length(app: &App, params: &Params, prompt: usize) -> Result<(), Failure> {
    let max = app.options.max_model_len;
    let asked = params.asked_tokens().unwrap_or(1);
    if prompt == 0 {
        return Err(Failure::bad_request("the prompt must not be empty"));
    }
    if prompt + asked > max {
        return Err(Failure::bad_request(format!(
            "This model's maximum context length is {max} tokens. However, you requested {asked} \
             output tokens and your prompt contains {prompt} input tokens. \
             Please reduce the length of the input prompt or the number of requested output tokens."
        )));
    }
    Ok(())
}

/// Requests of one client in an engine. Dropped early, it takes them back: the client hung up.
pub(super) struct Running {
    rank: Arc<Rank>,
    pub(super) ids: Range<u64>,
    open: usize,
}

impl Running {
    fn submit(
        &self,
        tokens: mpsc::UnboundedSender<Sampled>,
        request: Request,
    ) -> Result<(), Failure> {
        let command = Command::Submit { request, tokens };
        self.rank.commands.send(command).map_err(|_| Failure::internal("the engine has stopped"))
    }

    /// One answer came to its end, for this reason of [`FINISH_REASONS`].
    pub(super) fn finish(&mut self, reason: &str) {
        self.open -= 1;
        self.count(reason, 1);
    }

    /// Whether every answer came to its end.
    pub(super) fn done(&self) -> bool {
        self.open == 0
    }

    fn count(&self, reason: &str, answers: usize) {
        if let Some(at) = FINISH_REASONS.iter().position(|known| *known == reason) {
            self.rank.finished[at].fetch_add(answers as u64, Ordering::Relaxed);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.open > 0 {
            self.count("abort", self.open);
            for id in self.ids.clone() {
                // An engine that has stopped has nothing left to abort.
                let _ = self.rank.commands.send(Command::Abort(id));
            }
        }
    }
}
