//! One request: Headers → Body → Awaiting → Forwarded → Done.
//!
//! The one rule of the whole: a held request is let go exactly once, and until
//! its body has come to the end only by *returning* [`Action::Continue`] from
//! the body's own callback. Resuming it from elsewhere while more body is to
//! come loses a piece of it in Envoy 1.35 to 1.39 (envoyproxy/envoy#46841).

use std::borrow::Cow;
use std::time::Duration;

use warmpath_protocol::JSON;

use crate::decide::{self, Report, Verdict};
use crate::host::{Action, Host, Level};
use crate::inbound::Inbound;
use crate::lifecycle::{Answering, Detail};
use crate::metrics;
use crate::reason::{Fallback, Outcome};
use crate::root::Root;
use crate::upload::Upload;

/// The state of one request.
#[derive(Debug)]
pub struct Stream {
    context: u32,
    state: State,
    /// The answer, where the indexer is told of it.
    answering: Option<Answering>,
}

#[derive(Debug)]
enum State {
    /// Nothing came yet.
    Headers,
    /// Not ours to handle.
    Passing,
    /// The headers are held, the body is coming.
    Body(Box<Upload>),
    /// To be timed, not routed.
    #[cfg(feature = "bench")]
    Bench(Box<crate::bench::Bench>),
    /// The prompt is being worked on, or the indexer was asked.
    Awaiting {
        /// When the request's body had come to its end.
        since: Duration,
        /// The id that it is routed under.
        request_id: String,
    },
    /// The request went on.
    Forwarded(Outcome, Option<Report>),
    /// Nothing comes any more.
    Done,
}

impl Stream {
    /// The request of this context id.
    pub fn new(context: u32) -> Self {
        Self { context, state: State::Headers, answering: None }
    }

    /// The request's headers are there.
    pub fn on_request_headers(
        &mut self,
        host: &dyn Host,
        root: &mut Root,
        end_of_stream: bool,
    ) -> Action {
        self.state = State::Passing;
        let Ok(headers) = host.request_headers() else { return Action::Continue };
        let inbound = Inbound::read(&headers, root.config().overrides);
        for name in &inbound.forged {
            if let Err(status) = host.remove_request_header(name) {
                host.log(Level::Warn, &format!("warmpath: {name} could not be removed: {status}"));
            }
        }
        #[cfg(feature = "bench")]
        if let Some(bench) = crate::bench::Bench::of_path(&inbound.path) {
            self.state = State::Bench(Box::new(bench));
            return Action::Pause;
        }
        let Some(endpoint) = inbound.endpoint else { return Action::Continue };
        if let Some(fallback) = self.refusal(host, root, &inbound, end_of_stream) {
            return self.fall_back(host, root, fallback);
        }
        self.state = State::Body(Box::new(Upload::new(endpoint, inbound, root.share())));
        Action::Pause
    }

    /// Why this request need not even be held, if that is known already.
    fn refusal(
        &self,
        host: &dyn Host,
        root: &Root,
        inbound: &Inbound,
        end_of_stream: bool,
    ) -> Option<Fallback> {
        let limit = root.config().max_body_bytes as u64;
        if end_of_stream {
            Some(Fallback::NoBody)
        } else if inbound.content_length.is_some_and(|length| length > limit) {
            Some(Fallback::BodyTooLarge)
        } else {
            root.refusal(host)
        }
    }

    /// `size` bytes of the body are held.
    pub fn on_request_body(
        &mut self,
        host: &dyn Host,
        root: &mut Root,
        size: usize,
        end_of_stream: bool,
    ) -> Action {
        match &mut self.state {
            State::Body(upload) => {
                upload.size = size;
                if size > root.config().max_body_bytes {
                    self.fall_back(host, root, Fallback::BodyTooLarge)
                } else if end_of_stream {
                    self.on_request_end(host, root)
                } else {
                    let read = root.read_ahead(host, upload);
                    read.map_or_else(|why| self.fall_back(host, root, why), |()| Action::Pause)
                }
            }
            #[cfg(feature = "bench")]
            State::Bench(bench) => {
                bench.size = size;
                if end_of_stream {
                    bench.answer(host, root);
                }
                Action::Pause
            }
            State::Awaiting { .. } => Action::Pause,
            _ => Action::Continue,
        }
    }

    /// Trailers came, and so all of the body did.
    pub fn on_request_trailers(&mut self, host: &dyn Host, root: &mut Root) -> Action {
        match &self.state {
            State::Body(_) => self.on_request_end(host, root),
            State::Awaiting { .. } => Action::Pause,
            _ => Action::Continue,
        }
    }

    fn on_request_end(&mut self, host: &dyn Host, root: &mut Root) -> Action {
        let since = host.now();
        let State::Body(mut upload) = std::mem::replace(&mut self.state, State::Passing) else {
            return Action::Continue;
        };
        let (inbound, context) = (&mut upload.inbound, self.context);
        let made_up = || format!("{:x}-{context}", since.as_nanos());
        let request_id = inbound.request_id.get_or_insert_with(made_up).clone();
        let begun = match upload.size {
            0 => Err(Fallback::NoBody),
            _ => root.begin(host, self.context, since, upload),
        };
        match begun {
            Ok(()) => {
                self.state = State::Awaiting { since, request_id };
                Action::Pause
            }
            Err(fallback) => self.fall_back(host, root, fallback),
        }
    }

    /// The indexer answered, or will not.
    pub fn on_answer(
        &mut self,
        host: &dyn Host,
        root: &mut Root,
        answer: Result<Verdict, Fallback>,
    ) {
        let State::Awaiting { since, request_id } = &mut self.state else { return };
        let (since, request_id) = (*since, std::mem::take(request_id));
        let answer = match answer {
            Ok(Verdict::Routed(decision)) => Ok(decision),
            Ok(Verdict::Refused(seconds)) => return self.refuse(host, root, since, seconds),
            Err(fallback) => Err(fallback),
        };
        let forwarded = answer.and_then(|decision| {
            for (name, value) in decide::upstream_headers(&decision, root.config()) {
                host.set_request_header(name, &value).map_err(|_| Fallback::HeaderRefused)?;
            }
            Ok((Outcome::Routed(decision.reason), Some(Report::new(&decision))))
        });
        let (outcome, report) =
            forwarded.unwrap_or_else(|fallback| (Outcome::Fallback(fallback), None));
        let is_told = report.is_some() && root.config().lifecycle > Detail::Off;
        self.answering = is_told.then(|| Answering::new(request_id));
        let took = host.now().saturating_sub(since);
        root.metrics().time_later(host, metrics::DECISION, took);
        self.forward(host, root, outcome, report, Some(took));
        if let Err(status) = host.resume_request() {
            host.log(Level::Error, &format!("warmpath: a request could not be resumed: {status}"));
        }
    }

    /// Answers in a worker's place: all are busy.
    fn refuse(&mut self, host: &dyn Host, root: &mut Root, since: Duration, seconds: u64) {
        let took = host.now().saturating_sub(since);
        root.metrics().time_later(host, metrics::DECISION, took);
        self.forward(host, root, Outcome::Saturated, None, Some(took));
        let (after, body) = (seconds.to_string(), decide::saturated(seconds));
        let headers = [("content-type", JSON), ("retry-after", &after)];
        // Whom Envoy lets nobody answer for is better served than left to wait.
        if host.answer(503, &headers, body.as_bytes()).is_err() {
            let _unheard = host.resume_request();
        }
    }

    fn fall_back(&mut self, host: &dyn Host, root: &mut Root, fallback: Fallback) -> Action {
        self.forward(host, root, Outcome::Fallback(fallback), None, None);
        Action::Continue
    }

    fn forward(
        &mut self,
        host: &dyn Host,
        root: &mut Root,
        outcome: Outcome,
        report: Option<Report>,
        took: Option<Duration>,
    ) {
        let reason = outcome.to_string();
        match outcome {
            Outcome::Routed(why) => root.metrics().count_later(metrics::REQUESTS, why.as_str(), 1),
            _ => root.metrics().count_reason(host, metrics::REQUESTS, &reason),
        }
        let took = took.map(|took| metrics::microseconds(took).to_string());
        let state = [
            ("warmpath.reason", Some(reason.as_str())),
            ("warmpath.decision_us", took.as_deref()),
            ("warmpath.worker", report.as_ref().map(|report| report.worker.as_str())),
            ("warmpath.overlap", report.as_ref().map(|report| report.overlap.as_str())),
        ];
        for (name, value) in state {
            if let Some(value) = value {
                // A gap in the access log is all that a refusal can mean.
                let _unheard = host.set_filter_state(name, value);
            }
        }
        self.state = State::Forwarded(outcome, report);
    }

    /// The answer's headers are about to go to the client.
    pub fn on_response_headers(&mut self, host: &dyn Host, root: &Root, end_of_stream: bool) {
        let State::Forwarded(outcome, report) = &self.state else { return };
        if let Some(answering) = &mut self.answering {
            let headers = host.response_headers().unwrap_or_default();
            let status = headers.get(":status").and_then(|text| text.parse().ok());
            let is_stream = |content: Cow<'_, str>| content.starts_with("text/event-stream");
            answering.on_headers(status, headers.get("content-type").is_some_and(is_stream));
            if end_of_stream {
                answering.on_end();
            }
        }
        if !root.config().report {
            return;
        }
        let reason = outcome.to_string();
        let headers = report.iter().flat_map(Report::headers);
        for (name, value) in headers.chain([("x-warmpath-reason", reason.as_str())]) {
            // The answer itself is what the client wants.
            let _unheard = host.set_response_header(name, value);
        }
    }

    /// A piece of the answer's body passes. There may be thousands of them: nothing is
    /// allocated and nothing asked of the host but for the first, and a few.
    pub fn on_response_body(&mut self, host: &dyn Host, root: &mut Root, size: usize, end: bool) {
        let Some(answering) = &mut self.answering else { return };
        if answering.on_piece(size, end) {
            root.report(host, answering.first());
        }
        if root.config().lifecycle == Detail::Full
            && let Some((start, length)) = answering.worth_reading(size)
            && let Ok(part) = host.response_body(start, length)
        {
            answering.on_read(&part);
        }
    }

    /// Trailers came, and so all of the answer did.
    pub fn on_response_trailers(&mut self) {
        if let Some(answering) = &mut self.answering {
            answering.on_end();
        }
    }

    /// Reports how far the answer is, where it is any further than last time.
    pub fn tell_growth(&mut self, host: &dyn Host, root: &mut Root) {
        if let Some(growth) = self.answering.as_mut().and_then(Answering::growth) {
            root.report(host, growth);
        }
    }

    /// The request is over, by its end or because a side left.
    pub fn on_done(&mut self, host: &dyn Host, root: &mut Root) {
        if let State::Awaiting { .. } = self.state {
            root.forget(host, self.context);
            let reason = Outcome::ClientGone.to_string();
            root.metrics().count_reason(host, metrics::REQUESTS, &reason);
        }
        if let Some(answering) = self.answering.take() {
            root.report(host, answering.last());
        }
        self.state = State::Done;
    }
}
