//! How large an engine's KV cache is, from `cache_config_info` on its metrics page.
//!
//! vLLM and SGLang put it into labels of a gauge that is always 1. The page is read
//! for the load anyway; what it says of the cache never changes while the engine lives.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::prometheus::label;

/// What an engine said of its KV cache; 0 where it said nothing.
#[derive(Debug, Default)]
pub struct Capacity {
    tokens: AtomicU64,
    block_size: AtomicU32,
}

/// One engine's line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CacheConfig {
    pub(crate) engine: u32,
    pub(crate) blocks: u64,
    pub(crate) block_size: u32,
}

impl Capacity {
    /// Tokens in one of its blocks.
    pub fn block_size(&self) -> Option<u32> {
        Some(self.block_size.load(Ordering::Relaxed)).filter(|size| *size > 0)
    }

    /// How many blocks of that many tokens it has room for.
    pub fn blocks_of(&self, block_size: u32) -> Option<u64> {
        let tokens = self.tokens.load(Ordering::Relaxed);
        (tokens > 0 && block_size > 0).then(|| tokens / u64::from(block_size))
    }

    /// Takes what engines behind one holder say; their caches add up.
    pub(crate) fn learn(&self, engines: &[CacheConfig]) {
        let Some(first) = engines.first() else { return };
        let tokens = |one: &CacheConfig| one.blocks.saturating_mul(u64::from(one.block_size));
        let sum = engines.iter().map(tokens).fold(0, u64::saturating_add);
        self.tokens.store(sum, Ordering::Relaxed);
        self.block_size.store(first.block_size, Ordering::Relaxed);
    }
}

/// What a page says of caches.
pub(crate) fn read(page: &str) -> Vec<CacheConfig> {
    page.split(":cache_config_info{").skip(1).filter_map(line).collect()
}

/// The labels up to the end of their line.
fn line(rest: &str) -> Option<CacheConfig> {
    let (labels, _) = rest.lines().next()?.rsplit_once('}')?;
    let label = |name: &str| label(labels, name);
    let number = |names: [&str; 2]| {
        let label = names.into_iter().find_map(label)?;
        label.parse::<u64>().ok().filter(|number| *number > 0)
    };
    Some(CacheConfig {
        engine: label("engine").map_or(Some(0), |engine| engine.parse().ok())?,
        // The engine keeps one block for itself.
        blocks: number(["num_gpu_blocks", "num_pages"])?.saturating_sub(1).max(1),
        block_size: u32::try_from(number(["block_size", "page_size"])?).ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_read_by_engine() {
        let page = "# HELP vllm:cache_config_info Information\n\
            # TYPE vllm:cache_config_info gauge\n\
            vllm:cache_config_info{block_size=\"16\",cache_dtype=\"auto\",engine=\"0\",\
            mamba_block_size=\"7\",num_gpu_blocks=\"1001\",num_gpu_blocks_override=\"None\"} 1.0\n\
            vllm:cache_config_info{engine=\"1\",num_gpu_blocks=\"11\",block_size=\"32\"} 1.0\n";
        let one = |engine, blocks, block_size| CacheConfig { engine, blocks, block_size };
        assert_eq!(read(page), [one(0, 1000, 16), one(1, 10, 32)]);
    }

    #[test]
    fn what_says_nothing_is_skipped() {
        for line in ["{engine=\"0\"} 1", "{block_size=\"None\",num_gpu_blocks=\"5\"} 1", "{", ""] {
            assert_eq!(read(&format!("vllm:cache_config_info{line}\n")), [], "{line}");
        }
    }

    #[test]
    fn caches_behind_one_holder_add_up_in_tokens() {
        let capacity = Capacity::default();
        assert_eq!((capacity.block_size(), capacity.blocks_of(16)), (None, None));
        let one = |blocks, block_size| CacheConfig { engine: 0, blocks, block_size };
        capacity.learn(&[one(10, 16), one(10, 16)]);
        capacity.learn(&[]);
        assert_eq!((capacity.block_size(), capacity.blocks_of(64)), (Some(16), Some(5)));
    }
}
