//! The traffic of a chat product: many conversations, a few system prompts, and
//! people who come back to a conversation after others had their turn.
//!
//! Equal seeds give equal prompts, whatever answers and in whatever order: the
//! text is made from the seed, the conversation and the turn alone. Only the
//! answers that a conversation quotes come from the engine.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use anyhow::Result;
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom, SliceRandom};
use rand::{RngExt, SeedableRng};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::Mutex;

use crate::client::{Client, Reply};
use crate::measure::{Percentiles, percent};

/// The shape of the traffic.
#[derive(Clone, Debug)]
pub struct Workload {
    /// Model name in each request.
    pub model: String,
    /// Conversations.
    pub sessions: usize,
    /// Requests of each conversation.
    pub turns: usize,
    /// System prompts, shared by the conversations in turn.
    pub systems: usize,
    /// Words of a system prompt.
    pub system_words: usize,
    /// Words of a user's message.
    pub user_words: usize,
    /// Tokens of an answer.
    pub answer_tokens: usize,
    /// Requests under way at any time.
    pub concurrency: usize,
    /// Changes every text.
    pub seed: u64,
}

impl Workload {
    /// The demo's traffic with about this many requests.
    pub fn demo(model: &str, requests: usize) -> Self {
        let turns = 10;
        Self {
            model: model.to_owned(),
            sessions: requests.div_ceil(turns).max(1),
            turns,
            systems: 4,
            system_words: 120,
            user_words: 110,
            answer_tokens: 24,
            concurrency: 10,
            seed: 1,
        }
    }

    /// How many requests it makes.
    pub fn requests(&self) -> usize {
        self.sessions * self.turns
    }

    /// Sends it all; `progress` is told the number of finished requests.
    pub async fn run(
        &self,
        client: &Client,
        progress: impl Fn(usize) + Send + Sync + 'static,
    ) -> Result<Report> {
        let shared = Arc::new(Run {
            workload: self.clone(),
            order: self.order(),
            next: AtomicUsize::new(0),
            finished: AtomicUsize::new(0),
            sessions: (0..self.sessions).map(|session| Mutex::new(self.open(session))).collect(),
        });
        let progress = Arc::new(progress);
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..self.concurrency.max(1) {
            let (shared, client, progress) = (shared.clone(), client.clone(), progress.clone());
            tasks.spawn(async move { shared.work(&client, &*progress).await });
        }
        let started = Instant::now();
        let mut outcomes = Vec::new();
        while let Some(part) = tasks.join_next().await {
            outcomes.extend(part?);
        }
        Ok(Report::of(&outcomes, started.elapsed().as_secs_f64()))
    }

    /// Every conversation's first turn, then every second, …, shuffled within
    /// each round: a user comes back after all others had a turn.
    fn order(&self) -> Vec<usize> {
        let mut random = StdRng::seed_from_u64(self.seed);
        let mut order = Vec::with_capacity(self.requests());
        for _ in 0..self.turns {
            let mut round: Vec<usize> = (0..self.sessions).collect();
            round.shuffle(&mut random);
            order.extend(round);
        }
        order
    }

    fn open(&self, session: usize) -> Conversation {
        let system = session % self.systems.max(1);
        let mut random = StdRng::seed_from_u64(self.seed ^ (system as u64) << 32);
        let text = prose(&mut random, self.system_words);
        Conversation {
            random: StdRng::seed_from_u64(self.seed ^ (session as u64 + 1) << 8),
            messages: vec![json!({"role": "system", "content": text})],
        }
    }
}

/// What a run measured.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Requests sent.
    pub requests: usize,
    /// Those that got no complete answer.
    pub errors: usize,
    /// The first error's text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_error: Option<String>,
    /// Share of all prompt tokens that came from a cache, in percent.
    pub cached_tokens_pct: f64,
    /// Time to the first token in milliseconds.
    pub ttft_ms: Percentiles,
    /// Complete answers a second.
    pub requests_per_s: f64,
    /// Mean length of the prompts.
    pub prompt_tokens_mean: f64,
}

impl Report {
    fn of(outcomes: &[Result<Reply>], seconds: f64) -> Self {
        let good = || outcomes.iter().flatten().filter(|reply| reply.status == 200);
        let usage = || good().filter_map(|reply| reply.usage);
        let error = |outcome: &Result<Reply>| match outcome {
            Ok(reply) if reply.status == 200 => None,
            Ok(reply) => Some(format!("status {}: {}", reply.status, reply.text)),
            Err(error) => Some(format!("{error:#}")),
        };
        Self {
            requests: outcomes.len(),
            errors: outcomes.len() - good().count(),
            first_error: outcomes.iter().find_map(error),
            cached_tokens_pct: percent(
                usage().filter_map(|usage| usage.cached_tokens).sum(),
                usage().map(|usage| usage.prompt_tokens).sum(),
            ),
            ttft_ms: Percentiles::of(good().map(|reply| reply.ttft.as_secs_f64() * 1e3)),
            requests_per_s: good().count() as f64 / seconds.max(f64::EPSILON),
            prompt_tokens_mean: Percentiles::of(usage().map(|usage| usage.prompt_tokens as f64))
                .mean,
        }
    }
}

struct Conversation {
    random: StdRng,
    messages: Vec<Value>,
}

struct Run {
    workload: Workload,
    order: Vec<usize>,
    next: AtomicUsize,
    finished: AtomicUsize,
    sessions: Vec<Mutex<Conversation>>,
}

impl Run {
    async fn work(
        &self,
        client: &Client,
        progress: &(impl Fn(usize) + Send + Sync),
    ) -> Vec<Result<Reply>> {
        let mut outcomes = Vec::new();
        while let Some(&session) = self.order.get(self.next.fetch_add(1, Ordering::Relaxed)) {
            let Some(session) = self.sessions.get(session) else { break };
            outcomes.push(self.turn(client, &mut *session.lock().await).await);
            progress(self.finished.fetch_add(1, Ordering::Relaxed) + 1);
        }
        outcomes
    }

    async fn turn(&self, client: &Client, conversation: &mut Conversation) -> Result<Reply> {
        let question = prose(&mut conversation.random, self.workload.user_words);
        conversation.messages.push(json!({"role": "user", "content": question}));
        let body = json!({
            "model": self.workload.model,
            "messages": conversation.messages,
            "max_tokens": self.workload.answer_tokens,
            "temperature": 0,
            "stream": true,
            "stream_options": {"include_usage": true},
        });
        let reply = client.chat(&body).await;
        let answer = reply.as_ref().map_or("", |reply| reply.text.as_str());
        conversation.messages.push(json!({"role": "assistant", "content": answer}));
        reply
    }
}

const WORDS: [&str; 64] = [
    "about",
    "after",
    "again",
    "answer",
    "area",
    "because",
    "before",
    "between",
    "book",
    "bridge",
    "build",
    "city",
    "clear",
    "cold",
    "colour",
    "country",
    "data",
    "different",
    "early",
    "earth",
    "every",
    "example",
    "family",
    "field",
    "follow",
    "garden",
    "great",
    "ground",
    "group",
    "house",
    "important",
    "island",
    "keep",
    "language",
    "large",
    "letter",
    "light",
    "listen",
    "little",
    "machine",
    "measure",
    "morning",
    "mountain",
    "music",
    "nature",
    "night",
    "number",
    "often",
    "order",
    "paper",
    "people",
    "picture",
    "place",
    "plan",
    "question",
    "river",
    "school",
    "second",
    "several",
    "simple",
    "story",
    "travel",
    "water",
    "world",
];

/// Text by its length, the same for equal seeds.
pub struct Prose(StdRng);

impl Prose {
    /// Text of this seed.
    pub fn new(seed: u64) -> Self {
        Self(StdRng::seed_from_u64(seed))
    }

    /// The next text of about so many bytes, of at least one word.
    pub fn text(&mut self, bytes: usize) -> String {
        let mut text = prose(&mut self.0, 1);
        while text.len() < bytes {
            text.push(' ');
            text.push_str(&prose(&mut self.0, 50.min((bytes - text.len()) / 8 + 1)));
        }
        text
    }
}

/// Words at random, equal for equal states of `random`.
pub(crate) fn prose(random: &mut StdRng, words: usize) -> String {
    let mut text = String::new();
    for index in 0..words {
        if index > 0 {
            text.push_str(if random.random_ratio(1, 12) { ". " } else { " " });
        }
        text.push_str(WORDS.choose(random).unwrap_or(&"word"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_seeds_give_equal_conversations_and_shared_system_prompts() {
        let workload = Workload::demo("m", 60);
        assert_eq!(workload.order(), workload.order());
        let system = |session| workload.open(session).messages[0].clone();
        assert_eq!(system(0), system(4));
        assert_ne!(system(0), system(1));
    }

    #[test]
    fn a_user_comes_back_only_after_all_others() {
        let workload = Workload::demo("m", 60);
        for round in workload.order().chunks(workload.sessions) {
            let mut seen = round.to_vec();
            seen.sort_unstable();
            assert_eq!(seen, (0..workload.sessions).collect::<Vec<_>>());
        }
    }
}
