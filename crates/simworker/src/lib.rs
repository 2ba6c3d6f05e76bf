/*!
A simulated engine: everything of vLLM that a router can see, without a model; and
in their words, SGLang and TensorRT-LLM ([`EngineKind`]).

Clients and the indexer talk to it as to the real server: OpenAI HTTP with
streaming, KV events over ZMQ with replay, load metrics over ZMQ and
Prometheus. Behind them a paged prefix cache works block for block as vLLM's
does (its order of eviction, its copies, its moments of publishing), and a
scheduler turns uncached tokens into time. So a routing decision has the same
consequences as on a GPU, on any machine and within seconds.

The cache and the scheduler are a pure state machine ([`engine`]) that neither
sleeps nor sends; everything else moves its inputs and outputs. Recorded traces
played back were rejected: they cannot answer to a router that sends a request
elsewhere than the recording did.

Each worker is one thread with its own single-threaded runtime. Dropping the
runtime closes every socket at once and without a farewell, which is what
SIGKILL does to an engine; that makes failure tests honest inside one process.
*/

mod buffer;
mod driver;
pub mod engine;
mod fleet;
mod http;
mod kind;
mod options;
mod ports;
mod publish;
mod text;
mod wire;
mod worker;

pub use fleet::{Fleet, Stats, Worker};
pub use kind::EngineKind;
pub use options::{EventLayout, Options};
