//! What a simulated fleet is made of; the binary's command line is the same structure.

use std::net::IpAddr;
use std::path::PathBuf;

use anyhow::ensure;
use clap::{Args, ValueEnum};

use crate::EngineKind;

/// Everything that can be set, with vLLM's names where it has one.
///
/// Worker `i` serves HTTP on `base_http_port + i` and load metrics on
/// `base_metrics_port + i`; its rank `r` publishes events on
/// `base_kv_events_port + i * ranks + r` and answers replays on
/// `base_replay_port + i * ranks + r`. A base of 0 takes free ports, a worker's
/// ranks side by side.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// Folder with tokenizer.json, tokenizer_config.json and the chat template
    #[arg(long, value_name = "DIR")]
    pub model_path: PathBuf,
    /// Model name in the API; the folder's name where absent
    #[arg(long, value_name = "NAME")]
    pub served_model_name: Option<String>,
    /// LoRA adapters served besides, as models of their own
    #[arg(long, value_name = "NAME", num_args = 1..)]
    pub lora: Vec<String>,

    /// How many workers run
    #[arg(long, default_value_t = 4)]
    pub num_workers: usize,
    /// Data-parallel ranks in each worker, each with its own cache and publisher
    #[arg(long, default_value_t = 1)]
    pub ranks: u32,
    /// Address that every socket binds
    #[arg(long, default_value = "127.0.0.1")]
    pub host: IpAddr,
    /// HTTP port of worker 0
    #[arg(long, default_value_t = 8100)]
    pub base_http_port: u16,
    /// KV event port of worker 0
    #[arg(long, default_value_t = 5557)]
    pub base_kv_events_port: u16,
    /// Replay port of worker 0
    #[arg(long, default_value_t = 5757)]
    pub base_replay_port: u16,
    /// Load metrics port of worker 0
    #[arg(long, default_value_t = 5657)]
    pub base_metrics_port: u16,

    /// Tokens in a block
    #[arg(long, default_value_t = 16)]
    pub block_size: usize,
    /// Blocks of each rank's cache; one of them, as in vLLM, is never used
    #[arg(long, default_value_t = 8192)]
    pub num_blocks: usize,
    /// Longest prompt and answer together, in tokens
    #[arg(long, default_value_t = 32768)]
    pub max_model_len: usize,
    /// Requests that one rank computes at a time
    #[arg(long, default_value_t = 64)]
    pub max_num_seqs: usize,
    /// Tokens that one step computes; a longer prompt is prefilled in chunks
    #[arg(long, default_value_t = 2048)]
    pub max_num_batched_tokens: usize,
    /// Prefill speed of one rank in tokens per second; 0 takes no time
    #[arg(long, default_value_t = 8000.0)]
    pub prefill_tokens_per_second: f64,
    /// Time between two tokens of an answer in milliseconds; 0 takes no time
    #[arg(long, default_value_t = 10.0)]
    pub decode_ms_per_token: f64,

    /// Engine that the workers speak like
    #[arg(long, value_enum, default_value_t = EngineKind::Vllm)]
    pub engine: EngineKind,
    /// Layout of the KV events, named after the first vLLM release that wrote it
    #[arg(long, value_enum, default_value_t = EventLayout::Map)]
    pub event_layout: EventLayout,
    /// Publish engine hashes as 32 bytes instead of integers; over HTTP, as their digits
    #[arg(long)]
    pub byte_hashes: bool,
    /// Give every worker its own hash seed: equal blocks, different engine hashes
    #[arg(long)]
    pub divergent_hashes: bool,
    /// trtllm-http: leave the tokens out of the events, as some releases do
    #[arg(long)]
    pub events_without_tokens: bool,
    /// trtllm-http: answer with an error until the first request is served, as some releases do
    #[arg(long)]
    pub events_after_first_request: bool,
    /// trtllm-http: blocks that move to the host before they are gone
    #[arg(long, default_value_t = 0)]
    pub host_blocks: usize,
    /// trtllm-http: a second, narrower attention window of so many tokens; 0 for none
    #[arg(long, default_value_t = 0)]
    pub sliding_window: usize,
    /// Topic frame of the KV events
    #[arg(long, default_value = "kv-events")]
    pub topic: String,
    /// Batches of events that can be replayed
    #[arg(long, default_value_t = 10_000)]
    pub buffer_steps: usize,
    /// Milliseconds between two load metrics frames
    #[arg(long, default_value_t = 100)]
    pub metrics_interval_ms: u64,
    /// Changes engine hashes and answers; equal seeds give equal runs
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
}

impl Options {
    /// The defaults of the command line, for the model in this folder.
    pub fn new(model_path: impl Into<PathBuf>) -> Options {
        Options {
            model_path: model_path.into(),
            served_model_name: None,
            lora: Vec::new(),
            num_workers: 4,
            ranks: 1,
            host: IpAddr::from([127, 0, 0, 1]),
            base_http_port: 8100,
            base_kv_events_port: 5557,
            base_replay_port: 5757,
            base_metrics_port: 5657,
            block_size: 16,
            num_blocks: 8192,
            max_model_len: 32768,
            max_num_seqs: 64,
            max_num_batched_tokens: 2048,
            prefill_tokens_per_second: 8000.0,
            decode_ms_per_token: 10.0,
            engine: EngineKind::Vllm,
            event_layout: EventLayout::Map,
            byte_hashes: false,
            divergent_hashes: false,
            events_without_tokens: false,
            events_after_first_request: false,
            host_blocks: 0,
            sliding_window: 0,
            topic: "kv-events".into(),
            buffer_steps: 10_000,
            metrics_interval_ms: 100,
            seed: 0,
        }
    }

    /// The same on free ports, for tests.
    pub fn on_free_ports(self) -> Options {
        Options {
            base_http_port: 0,
            base_kv_events_port: 0,
            base_replay_port: 0,
            base_metrics_port: 0,
            ..self
        }
    }

    /// The name under which the model is served.
    pub fn model_name(&self) -> String {
        let folder = || Some(self.model_path.file_name()?.to_string_lossy().into_owned());
        self.served_model_name.clone().or_else(folder).unwrap_or_else(|| "default".into())
    }

    /// Refuses what no engine could run, naming the option to change.
    pub fn check(&self) -> anyhow::Result<()> {
        ensure!(self.num_workers > 0, "--num-workers must be at least 1");
        ensure!(self.ranks > 0, "--ranks must be at least 1");
        ensure!(self.block_size > 0, "--block-size must be at least 1");
        ensure!(self.max_num_seqs > 0, "--max-num-seqs must be at least 1");
        ensure!(self.max_num_batched_tokens > 0, "--max-num-batched-tokens must be at least 1");
        ensure!(self.max_model_len > 1, "--max-model-len must be at least 2");
        ensure!(self.metrics_interval_ms > 0, "--metrics-interval-ms must be at least 1");
        let rate = self.prefill_tokens_per_second;
        ensure!(
            rate == 0.0 || (1.0..=1e12).contains(&rate),
            "--prefill-tokens-per-second must be 0 or at least 1, not {rate}"
        );
        let pause = self.decode_ms_per_token;
        ensure!(
            (0.0..=60_000.0).contains(&pause),
            "--decode-ms-per-token must be 0 to 60000, not {pause}"
        );
        let capacity = self.num_blocks.saturating_sub(1) * self.block_size;
        ensure!(
            self.max_model_len <= capacity,
            "--max-model-len {} does not fit the cache of {capacity} tokens: \
             raise --num-blocks to {} or lower --max-model-len",
            self.max_model_len,
            self.max_model_len.div_ceil(self.block_size) + 1,
        );
        Ok(())
    }
}

/// A layout of the KV events on the wire, and of the replies to a replay.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum EventLayout {
    /// Maps, and a topic frame in replays (0.26 to 0.32)
    Map,
    /// Maps, no topic frame in replays
    #[value(name = "map-0.24")]
    Map024,
    /// Arrays of 12: everything up to the kind of the cache
    #[value(name = "array-0.22", alias = "array-0.23")]
    Array022,
    /// Arrays of 10: with group_idx
    #[value(name = "array-0.20")]
    Array020,
    /// Arrays of 9: with extra_keys
    #[value(name = "array-0.17")]
    Array017,
    /// Arrays of 8: with lora_name
    #[value(name = "array-0.14")]
    Array014,
    /// Arrays of 7: with medium, unsigned hashes
    #[value(name = "array-0.10.2")]
    Array0102,
    /// Arrays of 6, signed hashes
    #[value(name = "array-0.10")]
    Array010,
    /// Arrays of 6, signed hashes, no rank in the batch
    #[value(name = "array-0.9")]
    Array009,
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        options: Options,
    }

    fn parse(arguments: &[&str]) -> Options {
        let line = ["simworker", "--model-path", "models/tiny"].iter().chain(arguments);
        Line::parse_from(line).options
    }

    #[test]
    fn the_library_has_the_defaults_of_the_command_line() {
        let (line, library) = (parse(&[]), Options::new("models/tiny"));
        assert_eq!(format!("{line:?}"), format!("{library:?}"));
        assert!(library.check().is_ok());
        assert_eq!(library.model_name(), "tiny");
    }

    #[test]
    fn what_cannot_run_is_refused_with_the_option_to_change() {
        for (arguments, option) in [
            (["--num-workers", "0"], "--num-workers"),
            (["--block-size", "0"], "--block-size"),
            (["--num-blocks", "10"], "raise --num-blocks to 2049"),
            (["--prefill-tokens-per-second", "0.5"], "--prefill-tokens-per-second"),
            (["--decode-ms-per-token", "inf"], "--decode-ms-per-token"),
        ] {
            let error = parse(&arguments).check().expect_err(option).to_string();
            assert!(error.contains(option), "{error}");
        }
    }

    #[test]
    fn event_layouts_are_named_after_releases() {
        let layout = |name| parse(&["--event-layout", name]).event_layout;
        assert_eq!(layout("map"), EventLayout::Map);
        assert_eq!(layout("array-0.23"), EventLayout::Array022);
        assert_eq!(layout("array-0.9"), EventLayout::Array009);
    }
}
