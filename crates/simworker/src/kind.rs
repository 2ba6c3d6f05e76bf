//! Which engine a simulated worker speaks like.

use clap::ValueEnum;

/// An engine, and where it has several, its way of telling events and load.
///
/// The cache and the scheduler behind them are the same: what a router sees of
/// one is what differs.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, ValueEnum)]
pub enum EngineKind {
    /// vLLM of the release that the event layout is of
    #[default]
    Vllm,
    /// SGLang: an event for each page, its own metrics, replay without a topic
    Sglang,
    /// trtllm-serve with its own ZMQ publisher, and its list of iterations
    TrtllmZmq,
    /// A publisher beside TensorRT-LLM, as the standalone example has one: no replay, no metrics page
    TrtllmSeed,
    /// trtllm-serve asked for its events: POST /kv_cache_events
    TrtllmHttp,
}

impl EngineKind {
    /// Whether events and replay are ZMQ sockets.
    pub fn publishes(self) -> bool {
        self != EngineKind::TrtllmHttp
    }

    /// Whether missed events can be asked for.
    pub fn replays(self) -> bool {
        matches!(self, EngineKind::Vllm | EngineKind::Sglang | EngineKind::TrtllmZmq)
    }

    /// Whether it is `trtllm-serve`, with its pages.
    pub(crate) fn is_trtllm_serve(self) -> bool {
        matches!(self, EngineKind::TrtllmZmq | EngineKind::TrtllmHttp)
    }
}
