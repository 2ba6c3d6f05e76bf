//! Requests that are held while all workers are busy (see [`crate::saturation`]).
//!
//! A held request is a question in a queue and a promise of its answer. It leaves the
//! queue decided, refused, or because nobody waits for it any more: dropping
//! [`Held`] is enough, wherever the decision is by then, and nothing stays booked.

use std::collections::BTreeSet;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::metrics::Ending;
use super::{Question, Record, RouteError, Router, WhenBusy, seats};
use crate::fleet::Fleet;
use crate::saturation::{Queue, Waiting};

/// Between two looks at who is free while requests are held.
const LOOK: Duration = Duration::from_millis(5);

type Outcome = Result<Arc<Record>, RouteError>;

/// The answer to a question that may be held.
pub enum Asked {
    /// The decision.
    Decided(Arc<Record>),
    /// It will come.
    Held(Held),
}

/// A question and where its answer goes.
#[derive(Debug)]
pub(super) struct Request {
    question: Question,
    answer: oneshot::Sender<Outcome>,
}

/// The promise of a decision; dropped, it gives the request's place up.
pub struct Held {
    number: u64,
    request_id: String,
    /// For how long, at most.
    pub at_most: Duration,
    router: Arc<Holding>,
    answer: oneshot::Receiver<Outcome>,
}

/// What held requests and the router share.
pub(super) struct Holding {
    queue: Mutex<Queue<Request>>,
    fleet: Arc<Fleet>,
    wake: tokio::sync::Notify,
    /// Holds that nobody waited for to the end.
    gone: Counter,
}

impl Holding {
    pub(super) fn new(fleet: Arc<Fleet>, gone: Counter) -> Self {
        Self { queue: Mutex::default(), fleet, wake: tokio::sync::Notify::new(), gone }
    }
}

impl Future for Held {
    type Output = Outcome;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Outcome> {
        Pin::new(&mut self.answer)
            .poll(context)
            .map(|answer| answer.unwrap_or(Err(RouteError::NoWorker)))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if self.router.queue.lock().take(self.number).is_some() {
            self.router.gone.inc();
        } else if let Ok(Ok(_)) = self.answer.try_recv() {
            self.router.fleet.book().withdraw(&self.request_id);
        }
    }
}

impl Router {
    /// Decides, or holds the question where all workers are busy and that is configured;
    /// never for longer than `patience`.
    pub fn ask(
        &self,
        question: Question,
        started: Instant,
        patience: Duration,
    ) -> Result<Asked, RouteError> {
        let at_most = self.saturation.hold().min(patience);
        if at_most.is_zero() || !self.saturation.has_threshold() {
            return self.decide(question, started).map(Asked::Decided);
        }
        // Nobody overtakes those that wait for the same workers.
        if !self.holding.queue.lock().has_group(question.model) {
            match self.settle(&question, started, WhenBusy::Refuse) {
                Err(RouteError::Saturated(_)) => {}
                settled => return settled.map(Asked::Decided),
            }
        }
        let uncached = self.least_to_prefill(&question, started)?;
        let mut queue = self.holding.queue.lock();
        if queue.len() >= self.saturation.max_held {
            drop(queue);
            self.metrics.held(Ending::Full, Duration::ZERO);
            return self.decide(question, started).map(Asked::Decided);
        }
        let (answer, receiver) = oneshot::channel();
        let request_id = question.request_id.clone();
        let number = queue.add(Waiting {
            group: question.model,
            priority: question.priority,
            uncached,
            since: started,
            until: started + at_most,
            request: Request { question, answer },
        });
        self.metrics.waiting(queue.len());
        drop(queue);
        self.holding.wake.notify_one();
        let router = Arc::clone(&self.holding);
        Ok(Asked::Held(Held { number, request_id, at_most, router, answer: receiver }))
    }

    /// A worker may have got free.
    pub fn wake(&self) {
        if !self.holding.queue.lock().is_empty() {
            self.holding.wake.notify_one();
        }
    }

    /// Answers held requests as workers get free and as their time passes, until `stop`;
    /// then whoever is left is routed.
    pub async fn serve_held(&self, stop: CancellationToken) {
        loop {
            let is_idle = self.holding.queue.lock().is_empty();
            let wake = self.holding.wake.notified();
            let next = async {
                if is_idle {
                    wake.await;
                } else {
                    // A look that comes by itself is as good as a wake.
                    let _late = tokio::time::timeout(LOOK, wake).await;
                }
            };
            if stop.run_until_cancelled(next).await.is_none() {
                break;
            }
            self.serve(Instant::now(), None);
        }
        self.serve(Instant::now(), Some(WhenBusy::Route));
    }

    /// Goes through the held requests once; `whatever` is done with those that nobody is
    /// free for, instead of holding them on.
    fn serve(&self, now: Instant, whatever: Option<WhenBusy>) {
        let order = self.holding.queue.lock().order(&self.saturation, now);
        let mut saturated = BTreeSet::new();
        for number in order {
            // What is taken out while its asker leaves is put back, and found closed next time.
            let Some(one) = self.holding.queue.lock().take(number) else { continue };
            let waited = now.saturating_duration_since(one.since);
            if one.request.answer.is_closed() {
                self.metrics.held(Ending::Gone, waited);
                continue;
            }
            let question = &one.request.question;
            let is_late = now >= one.until;
            let is_own = question.pin.is_some() || !question.exclude.is_empty();
            let is_hopeless = !is_own && saturated.contains(&one.group);
            let when_busy = match whatever {
                Some(whatever) => whatever,
                None if is_late => self.when_busy(),
                None if is_hopeless => {
                    self.holding.queue.lock().put_back(number, one);
                    continue;
                }
                None => WhenBusy::Refuse,
            };
            let outcome = self.settle(question, now, when_busy);
            if !is_late && whatever.is_none() && matches!(outcome, Err(RouteError::Saturated(_))) {
                if !is_own {
                    saturated.insert(one.group);
                }
                self.holding.queue.lock().put_back(number, one);
                continue;
            }
            let ending = if is_late { Ending::Late } else { Ending::Free };
            self.metrics.held(ending, waited);
            let Request { question, answer } = one.request;
            if let Err(Ok(_)) = answer.send(outcome) {
                self.fleet.book().withdraw(&question.request_id);
            }
        }
        self.metrics.waiting(self.holding.queue.lock().len());
    }

    fn least_to_prefill(&self, question: &Question, now: Instant) -> Result<u64, RouteError> {
        let view = self.fleet.view();
        let workers = question.model.map_or(view.workers(), |model| view.of_model(model));
        let candidates = self.candidates(&seats(workers, question)?, &question.hashes, now);
        let to_prefill = candidates.iter().map(|one| one.to_prefill(question.tokens) as u64);
        Ok(to_prefill.min().unwrap_or(question.tokens))
    }
}
