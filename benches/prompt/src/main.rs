/*!
Tokenizing, and prompts as a whole, beside other tokenizers.

Natively: the compiled table, Hugging Face's tokenizers 0.23 and 1.0's release
candidate, fastokens and tiktoken. In V8, as Envoy runs it but in node: the table
and Hugging Face's 0.23, this program itself compiled to wasm32-wasip1.

The parent makes texts and has each engine measured by a process of its own, so that
memory is the engine's; the engines take turns, and medians are reported. Times are
processor time, which a busy machine stretches less.

Run it with `cargo xtask bench prompt`; docs/benchmarks.md says what the columns mean.
*/

mod engines;
mod measure;
mod turns;

#[cfg(not(target_family = "wasm"))]
mod bodies;
#[cfg(not(target_family = "wasm"))]
mod child;
#[cfg(not(target_family = "wasm"))]
mod folder;
#[cfg(not(target_family = "wasm"))]
mod parent;
#[cfg(not(target_family = "wasm"))]
mod report;
#[cfg(not(target_family = "wasm"))]
mod texts;
#[cfg(not(target_family = "wasm"))]
mod tiktoken;

use anyhow::{Context, Result};

/// `measure ENGINE FOLDER` makes one measurement and prints it as JSON; everything
/// else is for the parent, which does not exist in wasm.
fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [command, engine, folder] = arguments.as_slice()
        && command == "measure"
    {
        let engine = engine.parse().map_err(anyhow::Error::msg).context("no such engine")?;
        let figures = measure::measure(engine, folder.as_ref());
        println!("{}", serde_json::to_string(&figures)?);
        return Ok(());
    }
    #[cfg(target_family = "wasm")]
    anyhow::bail!("usage: measure ENGINE FOLDER");
    #[cfg(not(target_family = "wasm"))]
    parent::run()
}
