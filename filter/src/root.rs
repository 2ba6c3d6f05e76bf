//! What one VM knows beyond single requests: configuration, models, breaker,
//! metrics, and the calls under way.

mod held;
mod told;
mod work;

use std::collections::BTreeMap;
use std::time::Duration;

use warmpath_prompt::Cache;
use warmpath_protocol::{MANIFEST_PATH, Manifest, ROUTE_PATH};

use crate::asking::Asking;
use crate::breaker::Breaker;
use crate::channel::{Channel, Heard};
use crate::config::Config;
use crate::decide::{self, Verdict};
use crate::host::{self, Host, Level, Reply};
use crate::lifecycle::{self, Reports};
use crate::memory::Memory;
use crate::message;
use crate::metrics::{self, Metrics};
use crate::models::{self, Loaded, Models};
use crate::pace::Pace;
use crate::patience::{BACKSTOP, Patience, Wait};
use crate::reason::Fallback;
use crate::tasks::Tasks;

/// The first poll for the manifest comes this soon; while there is none the
/// pause doubles up to `manifest_refresh_ms`.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// Between two slices of work: the shortest that Envoy has.
const NEXT_SLICE: Duration = Duration::from_millis(1);
/// Counters and histograms wait so long at most.
const METRICS: Duration = Duration::from_millis(25);
/// For the manifest and the files, which no request waits for.
const FETCH_TIMEOUT: Duration = Duration::from_secs(5);

/// The state of one plugin configuration in one VM.
pub struct Root {
    config: Config,
    is_configured: bool,
    /// The manifest's revision.
    revision: Option<String>,
    models: Models,
    cache: Cache,
    pace: Pace,
    tasks: Tasks,
    memory: Memory,
    reports: Reports,
    breaker: Breaker,
    metrics: Metrics,
    calls: BTreeMap<Call, Purpose>,
    channel: Channel,
    patience: Patience,
    /// Between two polls of the manifest.
    pause: Duration,
    polled: Option<Duration>,
    /// The timer's period, once it was set.
    tick: Option<Duration>,
    /// Whether a decision was asked for since the last tick.
    is_busy: bool,
    /// How long the pieces of files took, see [`loads`](Self::loads).
    #[cfg(feature = "bench")]
    loads: Vec<Duration>,
}

/// What is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Call {
    /// The answer to the call of this token.
    Http(u32),
    /// The answer on the stream to the question of this number.
    Stream(u32),
}

/// What a call is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// The manifest.
    Manifest,
    /// A piece of the file of this path.
    File(String),
    /// The decision for the request of this context id.
    Decision(u32, Wait),
    /// So many reports about answers.
    Reports(u64),
}

/// The context id of a request, and what the indexer decided for it.
pub type Answer = (u32, Result<Verdict, Fallback>);

impl Default for Root {
    fn default() -> Self {
        Self::new(Config::default(), false)
    }
}

impl Root {
    fn new(config: Config, is_configured: bool) -> Self {
        let breaker = Breaker::new(config.breaker_failures, config.breaker_open);
        let pause = FIRST_PAUSE.min(config.manifest_refresh);
        let cache = Cache::new(config.cache_bytes);
        let pace = Pace::new(config.slice);
        Self {
            config,
            is_configured,
            revision: None,
            models: Models::default(),
            cache,
            pace,
            tasks: Tasks::default(),
            memory: Memory::default(),
            reports: Reports::default(),
            breaker,
            metrics: Metrics::default(),
            calls: BTreeMap::new(),
            channel: Channel::default(),
            patience: Patience::default(),
            pause,
            polled: None,
            tick: None,
            is_busy: false,
            #[cfg(feature = "bench")]
            loads: Vec::new(),
        }
    }

    /// The configuration in force.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The models of the manifest.
    pub fn models(&self) -> &Models {
        &self.models
    }

    /// How long each callback was that took in a piece of a model's files.
    #[cfg(feature = "bench")]
    pub fn loads(&self) -> &[Duration] {
        &self.loads
    }

    /// The metrics of this VM.
    pub fn metrics(&mut self) -> &mut Metrics {
        &mut self.metrics
    }

    /// Takes over the configuration. One that can not be read leaves a filter
    /// that strips our headers and hands every request on. Requests that were under
    /// way are answered.
    pub fn on_configure(&mut self, host: &dyn Host, size: usize) -> Vec<Answer> {
        self.on_done(host);
        let left = lose(&mut self.calls, |_, _| true).into_iter().chain(self.tasks.drain());
        let left = left.map(|context| (context, Err(Fallback::Reconfigured))).collect();
        let read = host.configuration(size).map_err(|status| status.to_string());
        *self = match read
            .and_then(|bytes| Config::from_json(&bytes).map_err(|error| error.to_string()))
        {
            Ok(config) => Self::new(config, true),
            Err(why) => {
                let message = format!("warmpath: configuration: {why}; requests pass unrouted");
                host.log(Level::Error, &message);
                *self = Self::default();
                return left;
            }
        };
        self.set_tick(host, self.pause);
        left
    }

    /// Sees to it that the next tick comes within `period`. Only a tick makes the period
    /// longer: Envoy starts the timer anew whenever it is set, so that a period that each
    /// request moved down and up again would never pass.
    fn hasten_tick(&mut self, host: &dyn Host, period: Duration) {
        if self.tick.is_none_or(|tick| period < tick) {
            self.set_tick(host, period);
        }
    }

    /// The timer's period is the shortest that something waits for.
    fn adjust_tick(&mut self, host: &dyn Host) {
        let was_busy = std::mem::take(&mut self.is_busy);
        let is_asking = || self.calls.values().any(|p| matches!(p, Purpose::Decision(..)));
        let period = if !self.tasks.is_empty() || self.models.is_made() {
            NEXT_SLICE
        } else if was_busy || is_asking() {
            self.watch_period()
        } else if self.reports.is_pressing() || self.metrics.is_waiting() {
            lifecycle::PAUSE.min(METRICS).min(self.pause)
        } else {
            self.pause
        };
        self.set_tick(host, period);
    }

    fn set_tick(&mut self, host: &dyn Host, period: Duration) {
        if self.tick == Some(period) {
            return;
        }
        self.tick = Some(period);
        if let Err(status) = host.tick_every(period) {
            host.log(Level::Error, &format!("warmpath: no timer, no manifest: {status}"));
        }
    }

    /// Gives up on decisions that were waited for too long, works on the prompts that
    /// are under way, polls the manifest and goes on with what is to be fetched.
    pub fn on_tick(&mut self, host: &dyn Host) -> Vec<Answer> {
        if !self.is_configured {
            return Vec::new();
        }
        let now = host.now();
        let mut late = self.give_up(host, now);
        self.finish_model(host);
        late.extend(self.work_on(host));
        self.send_reports(host, now);
        self.metrics.flush(host);
        if self.is_poll_due(now) {
            self.polled = Some(now);
            self.poll(host);
        }
        self.adjust_tick(host);
        late
    }

    fn watch_period(&self) -> Duration {
        Patience::period(self.config.deadline).min(self.pause)
    }

    /// Timers are not exact: a tick that comes a little early counts. A clock
    /// that was set back makes a poll due.
    fn is_poll_due(&self, now: Duration) -> bool {
        let passed = self.polled.and_then(|polled| now.checked_sub(polled));
        passed.is_none_or(|passed| passed.saturating_add(self.watch_period()) >= self.pause)
    }

    fn poll(&mut self, host: &dyn Host) {
        if !self.calls.values().any(|purpose| *purpose == Purpose::Manifest) {
            self.fetch_manifest(host);
        }
        self.fetch_file(host);
        if self.revision.is_some() {
            self.channel.open(host, &self.config.indexer_cluster);
        } else {
            self.pause = self.pause.saturating_mul(2).min(self.config.manifest_refresh);
        }
    }

    /// Gives up the decisions that are overdue.
    fn give_up(&mut self, host: &dyn Host, now: Duration) -> Vec<Answer> {
        let (patience, deadline) = (&self.patience, self.config.deadline);
        let late = lose(&mut self.calls, |_, wait| patience.waited(wait, now) >= deadline);
        self.fail(host, late, Fallback::IndexerTimeout)
    }

    /// The answers of decisions that failed.
    fn fail(&mut self, host: &dyn Host, lost: Vec<u32>, why: Fallback) -> Vec<Answer> {
        for _ in &lost {
            self.note_decision(host, false);
        }
        lost.into_iter().map(|context| (context, Err(why))).collect()
    }

    fn fetch_manifest(&mut self, host: &dyn Host) {
        let tag = self.revision.as_ref().map(|revision| format!("\"{revision}\""));
        let mut headers = vec![(":method", "GET"), (":path", MANIFEST_PATH)];
        headers.extend(tag.as_deref().map(|tag| ("if-none-match", tag)));
        self.fetch(host, Purpose::Manifest, &headers);
    }

    fn fetch_file(&mut self, host: &dyn Host) {
        if self.calls.values().any(|purpose| matches!(purpose, Purpose::File(_))) {
            return;
        }
        while let Some(fetch) = self.models.next_fetch() {
            match fetch {
                Ok((path, range)) => {
                    let headers = [(":method", "GET"), (":path", &path), ("range", &range)];
                    self.fetch(host, Purpose::File(path.clone()), &headers);
                    break;
                }
                Err(broken) => self.tell(host, broken),
            }
        }
        self.show_models(host);
    }

    fn fetch(&mut self, host: &dyn Host, purpose: Purpose, headers: &[(&str, &str)]) {
        if self.call(host, purpose, headers, &[], FETCH_TIMEOUT).is_err() {
            self.metrics.count_reason(host, metrics::FETCH_FAILURES, "unreachable");
        }
    }

    fn call(
        &mut self,
        host: &dyn Host,
        purpose: Purpose,
        headers: &[(&str, &str)],
        body: &[u8],
        timeout: Duration,
    ) -> Result<(), Fallback> {
        let cluster = self.config.indexer_cluster.as_str();
        let headers: Vec<_> = [(":authority", cluster)].iter().chain(headers).copied().collect();
        let token = host
            .call(&host::Call { cluster, headers: &headers, body, timeout })
            .map_err(|_| Fallback::IndexerUnavailable)?;
        self.calls.insert(Call::Http(token), purpose);
        Ok(())
    }

    /// Why no request can be routed now, whatever is in it.
    pub fn refusal(&self, host: &dyn Host) -> Option<Fallback> {
        if !self.is_configured {
            Some(Fallback::BadConfig)
        } else if self.revision.is_none() {
            Some(Fallback::NoManifest)
        } else {
            let is_refused = self.breaker.is_open() && self.breaker.refuses(host.now());
            is_refused.then_some(Fallback::BreakerOpen)
        }
    }

    /// Asks for the decision of the request of this context id.
    pub fn route(
        &mut self,
        host: &dyn Host,
        context: u32,
        now: Duration,
        asking: &Asking,
    ) -> Result<(), Fallback> {
        if !self.breaker.admit(now) {
            return Err(Fallback::BreakerOpen);
        }
        let purpose = Purpose::Decision(context, self.patience.wait(now));
        let asked = self.ask(host, purpose, asking);
        self.is_busy = true;
        self.hasten_tick(host, self.watch_period());
        if asked.is_err() {
            self.note_decision(host, false);
        }
        asked
    }

    fn ask(&mut self, host: &dyn Host, purpose: Purpose, asking: &Asking) -> Result<(), Fallback> {
        if asking.path == ROUTE_PATH && self.channel.is_ready() {
            let number = self.channel.ask(host, &asking.body);
            let number = number.map_err(|_| Fallback::IndexerUnavailable)?;
            self.calls.insert(Call::Stream(number), purpose);
            return Ok(());
        }
        let mut headers = vec![(":method", "POST"), (":path", asking.path)];
        headers.extend(asking.headers.iter().map(|(name, value)| (*name, value.as_str())));
        let timeout = self.config.deadline.saturating_add(BACKSTOP);
        self.call(host, purpose, &headers, &asking.body, timeout)
    }

    fn note_decision(&mut self, host: &dyn Host, answered: bool) {
        match answered {
            true => self.breaker.answered(),
            false => self.breaker.failed(host.now()),
        }
        let is_open = i64::from(self.breaker.is_open());
        self.metrics.set(host, metrics::BREAKER_OPEN, is_open);
    }

    /// Whether the call of this token is one of this root's, and what it is for.
    pub fn take_call(&mut self, token: u32) -> Option<Purpose> {
        self.calls.remove(&Call::Http(token))
    }

    /// Whether the stream of this token is this root's.
    pub fn has_stream(&self, token: u32) -> bool {
        self.channel.is(token)
    }

    /// Takes a message of the stream; an answer to a question that nobody waits
    /// for any more is dropped.
    pub fn on_stream_message(&mut self, host: &dyn Host, message: &[u8]) -> Option<Answer> {
        let Heard::Answer(number, reply) = self.channel.on_message(message)? else { return None };
        if self.is_held(host, number, &reply) {
            return None;
        }
        let purpose = self.calls.remove(&Call::Stream(number))?;
        self.on_reply(host, purpose, &reply)
    }

    /// The stream is gone, and with it what was asked on it.
    pub fn on_stream_close(&mut self, host: &dyn Host) -> Vec<Answer> {
        self.channel.close(host);
        let lost = lose(&mut self.calls, |call, _| matches!(call, Call::Stream(_)));
        self.fail(host, lost, Fallback::IndexerUnavailable)
    }

    /// Takes the answer to a call. A decision comes back with the context id of
    /// the request that waits for it.
    pub fn on_reply(&mut self, host: &dyn Host, purpose: Purpose, reply: &Reply) -> Option<Answer> {
        match purpose {
            Purpose::Decision(context, _) => {
                let decision = decide::answer(reply, self.config.destination);
                let failed = decision.as_ref().is_err_and(|error| error.is_indexers_fault());
                self.note_decision(host, !failed);
                return Some((context, decision));
            }
            Purpose::Reports(count) => self.on_reports(host, count, reply),
            Purpose::Manifest => self.on_manifest(host, reply),
            Purpose::File(path) => self.on_file(host, &path, reply),
        }
        None
    }

    fn on_file(&mut self, host: &dyn Host, path: &str, reply: &Reply) {
        let since = host.now();
        let accepted = self.models.accept(path, reply);
        self.note_load(host, since);
        match accepted {
            Ok(broken) => {
                broken.into_iter().for_each(|broken| self.tell(host, broken));
                self.fetch_file(host);
                if self.models.is_made() {
                    self.hasten_tick(host, NEXT_SLICE);
                }
            }
            // The next tick asks again.
            Err(_) => self.metrics.count_reason(host, metrics::FETCH_FAILURES, "file"),
        }
    }

    fn finish_model(&mut self, host: &dyn Host) {
        if !self.models.is_made() {
            return;
        }
        let since = host.now();
        let loaded = self.models.finish();
        self.note_load(host, since);
        loaded.into_iter().for_each(|loaded| self.tell(host, loaded));
        self.fetch_file(host);
    }

    fn note_load(&mut self, host: &dyn Host, since: Duration) {
        #[cfg(feature = "bench")]
        self.loads.push(host.now().saturating_sub(since));
        self.note_callback(host, since);
    }

    fn on_manifest(&mut self, host: &dyn Host, reply: &Reply) {
        let manifest = match reply.status {
            Some(304) => return,
            Some(200) => message::read::<Manifest>(&reply.body).ok(),
            _ => None,
        };
        let Some(Manifest { revision, models }) = manifest else {
            return self.metrics.count_reason(host, metrics::FETCH_FAILURES, "manifest");
        };
        if self.revision.as_ref() == Some(&revision) {
            return;
        }
        for line in models::unusable(&models) {
            host.log(Level::Warn, &format!("warmpath: {line}"));
        }
        self.models.update(models);
        if self.revision.replace(revision).is_none() {
            self.pause = self.config.manifest_refresh;
            self.adjust_tick(host);
            self.channel.open(host, &self.config.indexer_cluster);
        }
        self.fetch_file(host);
    }

    fn tell(&mut self, host: &dyn Host, loaded: Loaded) {
        match loaded {
            Loaded::Ready(name) => host.log(Level::Info, &format!("warmpath: model {name} loaded")),
            Loaded::Broken(name, why) => {
                self.metrics.count(host, metrics::MODEL_FAILURES, 1);
                host.log(Level::Error, &format!("warmpath: model {name} can not be used: {why}"));
            }
        }
    }

    fn show_models(&mut self, host: &dyn Host) {
        let counts = self.models.counts();
        let share = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        self.metrics.set(host, metrics::MODELS_READY, share(counts.ready));
        self.metrics.set(host, metrics::MODELS_LOADING, share(counts.loading));
    }

    /// The VM goes, or its configuration: its stream and what it added to shared
    /// gauges go with it.
    pub fn on_done(&mut self, host: &dyn Host) {
        self.channel.close(host);
        self.metrics.withdraw(host);
    }
}

/// Takes the decisions out that are lost, by their contexts: their answers, should
/// they come, are nobody's.
fn lose(calls: &mut BTreeMap<Call, Purpose>, is_lost: impl Fn(&Call, Wait) -> bool) -> Vec<u32> {
    let lost = calls.extract_if(.., |call, purpose| match purpose {
        Purpose::Decision(_, wait) => is_lost(call, *wait),
        _ => false,
    });
    lost.filter_map(|(_, purpose)| match purpose {
        Purpose::Decision(context, _) => Some(context),
        _ => None,
    })
    .collect()
}
