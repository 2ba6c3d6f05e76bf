//! Prompts, and users who send one after another.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::json;
use tokio::task::JoinSet;
use warmpath_testbed::workload::Prose;

use super::wire::Connection;

/// Digits of the number that makes every prompt a new one.
const DIGITS: usize = 12;
/// Users who share a system prompt.
const USERS: usize = 16;

/// Requests of one size. Three quarters of each are a system prompt that others
/// share, as in a chat product; the last bytes are never the same.
pub(super) struct Prompts {
    requests: Vec<Vec<u8>>,
    sent: AtomicU64,
}

impl Prompts {
    /// Requests of about `bytes` for `model`, with that many system prompts.
    pub(super) fn new(model: &str, bytes: usize, systems: usize) -> Self {
        let mut prose = Prose::new(bytes as u64);
        let mut requests = Vec::new();
        for _ in 0..systems {
            let system = prose.text(bytes * 3 / 4);
            for _ in 0..USERS {
                let user = format!("{} {}", prose.text(bytes / 4), "0".repeat(DIGITS));
                // The prompt's end is the body's, but for the quotes and brackets.
                let body = json!({"max_tokens": 1, "model": model, "messages": [
                    {"role": "system", "content": system}, {"role": "user", "content": user}]})
                .to_string();
                let head = format!(
                    "POST /v1/chat/completions HTTP/1.1\r\nhost: llm\r\n\
                     content-type: application/json\r\ncontent-length: {}\r\n\r\n",
                    body.len()
                );
                requests.push([head, body].concat().into_bytes());
            }
        }
        Self { requests, sent: AtomicU64::new(0) }
    }

    /// How many different ones there are but for the number.
    pub(super) fn len(&self) -> usize {
        self.requests.len()
    }

    fn next(&self, into: &mut Vec<u8>) {
        let number = self.sent.fetch_add(1, Ordering::Relaxed);
        let index = usize::try_from(number).unwrap_or(0) % self.requests.len();
        into.clear();
        into.extend_from_slice(&self.requests[index]);
        let zeros = [b'0'; DIGITS];
        let at = into.windows(DIGITS).rposition(|window| window == zeros);
        if let Some(at) = at {
            let digits = format!("{number:0DIGITS$}");
            into[at..at + DIGITS].copy_from_slice(digits.as_bytes());
        }
    }
}

/// What users saw.
pub(super) struct Seen {
    /// Requests answered.
    pub(super) requests: usize,
    /// How long all of it took.
    pub(super) seconds: f64,
    /// From sending to the answer, in microseconds.
    pub(super) microseconds: Vec<f64>,
}

/// `users` send to `address`, each the next request once the last is answered,
/// for so long, or until `most` were sent.
pub(super) async fn run(
    address: SocketAddr,
    prompts: &Arc<Prompts>,
    users: usize,
    duration: Duration,
    most: usize,
) -> Result<Seen> {
    let start = Instant::now();
    let mut tasks = JoinSet::new();
    for _ in 0..users {
        let prompts = Arc::clone(prompts);
        tasks.spawn(async move {
            let mut connection = Connection::open(address).await?;
            let (mut request, mut took) = (Vec::new(), Vec::new());
            while start.elapsed() < duration && took.len() < most.div_ceil(users) {
                prompts.next(&mut request);
                let sent = Instant::now();
                connection.send(&request).await?;
                let status = connection.receive().await?;
                ensure!(status == Some(200), "a request was answered with {status:?}");
                took.push(sent.elapsed().as_secs_f64() * 1e6);
            }
            Ok(took)
        });
    }
    let mut microseconds = Vec::new();
    while let Some(took) = tasks.join_next().await {
        microseconds.extend(took??);
    }
    Ok(Seen { requests: microseconds.len(), seconds: start.elapsed().as_secs_f64(), microseconds })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prompts_have_their_size_and_are_never_the_same() {
        let prompts = Prompts::new("m", 4096, 2);
        let (mut first, mut second) = (Vec::new(), Vec::new());
        prompts.next(&mut first);
        for _ in 0..prompts.len() {
            prompts.next(&mut second);
        }
        assert_ne!(first, second);
        assert_eq!(first.len(), second.len());
        assert!((4000..4700).contains(&first.len()), "{}", first.len());
    }
}
