//! The command line, as types; its texts are the manual.

use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};

use crate::config::Flags;
use crate::launch;

const EXAMPLES: &str = "\
Examples:
  Four vLLM servers on this host, with the ports of the stand-alone routers:
    warmpath-indexer --num-workers 4 --model-path /models/qwen --served-model-name qwen

  A file, and a Unix socket for the Envoy beside it:
    warmpath-indexer --config warmpath.yaml --unix-socket /run/warmpath/indexer.sock

Log level: WARMPATH_LOG, for example info or warmpath_indexer=debug [default: info,zeromq=error]";

/// Routes LLM requests to the worker that holds the longest prefix of the prompt.
///
/// Without a subcommand it serves: it follows the workers' KV events and load,
/// and answers the filter in Envoy. Everything can be said in a file (--config),
/// by environment variables or by flags; flags win over variables, and both over
/// the file.
#[derive(Clone, Debug, Parser)]
#[command(name = "warmpath-indexer", version, after_long_help = EXAMPLES)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Cli {
    /// What to serve.
    #[command(flatten)]
    pub flags: Flags,
    /// What else to do.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// What the indexer can do beside serving.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Tokenize JSON lines from stdin: {"text": …} or a request's body, to {"ids": […]} or {"error": …} each
    ///
    /// A text is encoded as it is, without the special tokens that a prompt
    /// would begin with; a body becomes the ids that the engine hashes. A body
    /// with several prompts gives "prompts" too. Bodies with neither messages nor
    /// a prompt, and those of other endpoints than chat and completions, say in a
    /// field "path" where they would be sent, such as "/v1/responses".
    Tokens {
        /// Folder of the model: tokenizer.json, tokenizer_config.json, chat template
        #[arg(long, env = "WARMPATH_MODEL_PATH", value_name = "DIR")]
        model_path: PathBuf,
        /// What encodes: the table as it runs in Envoy, or the reference library
        #[arg(long, value_enum, default_value_t = Engine::Table)]
        engine: Engine,
    },
    /// Look once at every worker of the configuration: health, events, replay, load
    ///
    /// Prints a line for each, with a remedy for what is wrong, and fails where
    /// anything is. Takes the same file, variables and flags as serving.
    Doctor(Box<Flags>),
    /// Replay recordings of engines, and compare the index with what their events imply
    ///
    /// Prints a line for each recorded request; fails where an overlap differs
    /// or an event was lost or rejected.
    Replay {
        /// Recordings: JSON lines with every frame in hex
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
        /// Tokens in a block; the events teach it where it is not given
        #[arg(long, env = "WARMPATH_BLOCK_SIZE", value_name = "TOKENS")]
        block_size: Option<u32>,
    },
    /// Start vLLM or TensorRT-LLM servers on this host, with KV events, and keep them running
    ///
    /// Once all are healthy the list of workers is printed in the form that
    /// --config takes. Each line that a worker logs goes to stderr behind its id.
    /// A worker that ends is started again; a signal stops all.
    LaunchWorkers(launch::Arguments),
}

/// What turns text into token ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Engine {
    /// The compiled table, as it runs in Envoy.
    Table,
    /// Hugging Face's tokenizers.
    Library,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }
}
