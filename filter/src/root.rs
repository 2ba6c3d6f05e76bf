//! What one VM knows beyond single requests: configuration, models, breaker,
//! metrics, and the calls under way.

use std::collections::BTreeMap;
use std::time::Duration;

use warmpath_protocol::{Decision, MANIFEST_PATH, Manifest};

use crate::breaker::Breaker;
use crate::config::Config;
use crate::decide;
use crate::host::{Call, Host, Level, Reply};
use crate::lag::Lag;
use crate::metrics::{self, Metrics};
use crate::models::{self, Loaded, Models};
use crate::reason::Fallback;

/// The first poll for the manifest comes this soon; while there is none the
/// pause doubles up to `manifest_refresh_ms`.
const FIRST_TICK: Duration = Duration::from_millis(50);
/// For the manifest and the files, which no request waits for.
const FETCH_TIMEOUT: Duration = Duration::from_secs(5);

/// The state of one plugin configuration in one VM.
pub struct Root {
    config: Config,
    is_configured: bool,
    /// The manifest's revision.
    revision: Option<String>,
    models: Models,
    breaker: Breaker,
    metrics: Metrics,
    calls: BTreeMap<u32, Purpose>,
    lag: Lag,
    tick: Duration,
}

/// What a call is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// The manifest.
    Manifest,
    /// A piece of the file of this path.
    File(String),
    /// The decision for the request of this context id, asked for at this time.
    Decision(u32, Duration),
}

/// The context id of a request, and what the indexer decided for it.
pub type Answer = (u32, Result<Decision, Fallback>);

impl Default for Root {
    fn default() -> Self {
        Self::new(Config::default(), false)
    }
}

impl Root {
    fn new(config: Config, is_configured: bool) -> Self {
        let breaker = Breaker::new(config.breaker_failures, config.breaker_open);
        let tick = FIRST_TICK.min(config.manifest_refresh);
        Self {
            config,
            is_configured,
            revision: None,
            models: Models::default(),
            breaker,
            metrics: Metrics::default(),
            calls: BTreeMap::new(),
            lag: Lag::default(),
            tick,
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

    /// The metrics of this VM.
    pub fn metrics(&mut self) -> &mut Metrics {
        &mut self.metrics
    }

    /// Takes over the configuration. One that can not be read leaves a filter
    /// that strips our headers and hands every request on.
    pub fn on_configure(&mut self, host: &dyn Host, size: usize) {
        self.metrics.withdraw(host);
        let read = host.configuration(size).map_err(|status| status.to_string());
        *self = match read
            .and_then(|bytes| Config::from_json(&bytes).map_err(|error| error.to_string()))
        {
            Ok(config) => Self::new(config, true),
            Err(why) => {
                let message = format!("warmpath: configuration: {why}; requests pass unrouted");
                host.log(Level::Error, &message);
                return *self = Self::default();
            }
        };
        self.set_tick(host, self.tick);
    }

    fn set_tick(&mut self, host: &dyn Host, period: Duration) {
        self.tick = period;
        if let Err(status) = host.tick_every(period) {
            host.log(Level::Error, &format!("warmpath: no timer, no manifest: {status}"));
        }
    }

    /// Polls the manifest and goes on with what is to be fetched.
    pub fn on_tick(&mut self, host: &dyn Host) {
        if !self.is_configured {
            return;
        }
        if !self.calls.values().any(|purpose| *purpose == Purpose::Manifest) {
            self.fetch_manifest(host);
        }
        self.fetch_file(host);
        if self.revision.is_none() {
            self.set_tick(host, self.tick.saturating_mul(2).min(self.config.manifest_refresh));
        }
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
            .call(&Call { cluster, headers: &headers, body, timeout })
            .map_err(|_| Fallback::IndexerUnavailable)?;
        self.calls.insert(token, purpose);
        Ok(())
    }

    /// Why no request can be routed now, whatever is in it.
    pub fn refusal(&self, now: Duration) -> Option<Fallback> {
        if !self.is_configured {
            Some(Fallback::BadConfig)
        } else if self.revision.is_none() {
            Some(Fallback::NoManifest)
        } else {
            self.breaker.refuses(now).then_some(Fallback::BreakerOpen)
        }
    }

    /// The work for a request's decision begins.
    pub fn begin_work(&mut self, now: Duration) {
        self.lag.begin(now);
    }

    /// It ends, with a call or without; so much later Envoy's timers must be.
    pub fn end_work(&mut self, now: Duration) -> Duration {
        self.lag.end(now)
    }

    /// Asks for the decision of the request of this context id.
    pub fn route(
        &mut self,
        host: &dyn Host,
        context: u32,
        now: Duration,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Result<(), Fallback> {
        let lag = self.end_work(now);
        if !self.breaker.admit(now) {
            return Err(Fallback::BreakerOpen);
        }
        let deadline = self.config.deadline.saturating_add(lag);
        let asked = self.call(host, Purpose::Decision(context, now), headers, body, deadline);
        if asked.is_err() {
            self.note_decision(host, false);
        }
        asked
    }

    fn note_decision(&mut self, host: &dyn Host, answered: bool) {
        self.breaker.record(answered, host.now());
        let is_open = i64::from(self.breaker.is_open());
        self.metrics.set(host, metrics::BREAKER_OPEN, is_open);
    }

    /// Whether the call of this token is one of this root's, and what it is for.
    pub fn take_call(&mut self, token: u32) -> Option<Purpose> {
        self.calls.remove(&token)
    }

    /// Takes the answer to a call. A decision comes back with the context id of
    /// the request that waits for it.
    pub fn on_reply(&mut self, host: &dyn Host, purpose: Purpose, reply: &Reply) -> Option<Answer> {
        match purpose {
            Purpose::Decision(context, made) => {
                self.lag.answered(made);
                let decision = decide::answer(reply, self.config.destination);
                let failed = decision.as_ref().is_err_and(|error| error.is_indexers_fault());
                self.note_decision(host, !failed);
                return Some((context, decision));
            }
            Purpose::Manifest => self.on_manifest(host, reply),
            Purpose::File(path) => match self.models.accept(&path, reply) {
                Ok(loaded) => {
                    loaded.into_iter().for_each(|loaded| self.tell(host, loaded));
                    self.fetch_file(host);
                }
                // The next tick asks again.
                Err(_) => self.metrics.count_reason(host, metrics::FETCH_FAILURES, "file"),
            },
        }
        None
    }

    fn on_manifest(&mut self, host: &dyn Host, reply: &Reply) {
        let manifest = match reply.status {
            Some(304) => return,
            Some(200) => serde_json::from_slice::<Manifest>(&reply.body).ok(),
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
            self.set_tick(host, self.config.manifest_refresh);
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

    /// The VM goes: what it added to shared gauges goes with it.
    pub fn on_done(&mut self, host: &dyn Host) {
        self.metrics.withdraw(host);
    }
}
