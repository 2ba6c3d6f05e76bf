//! What a body says about the answer; what it says about the prompt is the prompt crate's.

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::Failure;

/// Answers are this long where the request does not say; vLLM's default for completions.
///
/// For a chat vLLM would go on to the end of the context, which a model that
/// talks nonsense has no reason to do.
const DEFAULT_MAX_TOKENS: usize = 16;

/// Most answers to one prompt.
const MAX_CHOICES: usize = 128;

/// The fields that matter here; all others are accepted and have no effect.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Params {
    pub(super) model: Option<String>,
    pub(super) messages: Option<IgnoredAny>,
    max_tokens: Option<usize>,
    max_completion_tokens: Option<usize>,
    max_output_tokens: Option<usize>,
    sampling_params: Option<SamplingParams>,
    min_tokens: Option<usize>,
    ignore_eos: Option<bool>,
    n: Option<usize>,
    stream: Option<bool>,
    stream_options: Option<StreamOptions>,
    return_token_ids: Option<bool>,
    vllm_xargs: Option<ExtraArguments>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct StreamOptions {
    include_usage: Option<bool>,
}

/// Where token ids are sent, these say how long the answer may be.
#[derive(Default, Deserialize)]
#[serde(default)]
struct SamplingParams {
    max_tokens: Option<usize>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ExtraArguments {
    kv_cache_report_mode: Option<String>,
}

impl Params {
    pub(super) fn parse(body: &[u8]) -> Result<Params, Failure> {
        let params: Params = serde_json::from_slice(body).map_err(|error| {
            Failure::bad_request(format!("the body is not understood: {error}"))
        })?;
        let choices = params.choices();
        if !(1..=MAX_CHOICES).contains(&choices) {
            return Err(Failure::bad_request(format!(
                "n must be 1 to {MAX_CHOICES}, not {choices}"
            )));
        }
        if params.asked_tokens() == Some(0) {
            return Err(Failure::bad_request("max_tokens must be at least 1, not 0"));
        }
        Ok(params)
    }

    /// The limit that the request names.
    pub(super) fn asked_tokens(&self) -> Option<usize> {
        let sampling = || self.sampling_params.as_ref().and_then(|params| params.max_tokens);
        self.max_completion_tokens.or(self.max_tokens).or(self.max_output_tokens).or_else(sampling)
    }

    /// The limit that holds, in a context with `room` tokens left.
    pub(super) fn max_tokens(&self, room: usize) -> usize {
        self.asked_tokens().unwrap_or(DEFAULT_MAX_TOKENS).min(room)
    }

    pub(super) fn min_tokens(&self) -> usize {
        self.min_tokens.unwrap_or_default()
    }

    pub(super) fn ignore_eos(&self) -> bool {
        self.ignore_eos.unwrap_or_default()
    }

    pub(super) fn choices(&self) -> usize {
        self.n.unwrap_or(1)
    }

    pub(super) fn stream(&self) -> bool {
        self.stream.unwrap_or_default()
    }

    pub(super) fn include_usage(&self) -> bool {
        self.stream_options.as_ref().and_then(|options| options.include_usage).unwrap_or_default()
    }

    pub(super) fn return_token_ids(&self) -> bool {
        self.return_token_ids.unwrap_or_default()
    }

    /// Whether the cache hits of the request are to be announced again.
    pub(super) fn report_hits(&self) -> bool {
        let mode = self.vllm_xargs.as_ref().and_then(|more| more.kv_cache_report_mode.as_deref());
        mode == Some("full")
    }
}
