//! What became of routed requests, told to the indexer in batches.
//!
//! The indexer books each request that it decides about; these reports move the
//! booking on. They wait in a bounded queue for a tick of the VM's timer, one call for
//! all: a call each would cost more than the decision. A batch that does not arrive is
//! lost, for the next report of a request makes up for it, and the indexer expires what
//! it hears no more of.

use std::time::Duration;

use warmpath_protocol::{LifecycleEvent, LifecycleReport};

/// So many reports wait at most.
const MAX_WAITING: usize = 4096;
/// They wait so long at most, if the call before has been answered.
pub const PAUSE: Duration = Duration::from_millis(25);
/// Growth is told so often.
const GROWTH: Duration = Duration::from_millis(500);
/// `usage` stands at the end of what it is in.
const USAGE_BYTES: usize = 2048;
const CACHED_TOKENS: &[u8] = b"\"cached_tokens\":";

/// How much is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Detail {
    /// Nothing.
    Off,
    /// The first token, and the end.
    Coarse,
    /// Growth as well, and what the engine says that it had cached.
    Full,
}

/// The reports that wait, of one VM.
#[derive(Debug, Default)]
pub struct Reports {
    waiting: Vec<LifecycleReport>,
    is_sending: bool,
    sent: Option<Duration>,
    grown: Option<Duration>,
}

impl Reports {
    /// Adds one; false where there is no room.
    pub fn add(&mut self, report: LifecycleReport) -> bool {
        let has_room = self.waiting.len() < MAX_WAITING;
        if has_room {
            self.waiting.push(report);
        }
        has_room
    }

    /// Whether some wait that could be sent.
    pub fn is_pressing(&self) -> bool {
        !self.is_sending && !self.waiting.is_empty()
    }

    /// Those that are due, which count as being sent until [`sent`](Self::sent).
    pub fn due(&mut self, now: Duration) -> Option<Vec<LifecycleReport>> {
        let is_early = has_passed_less(self.sent, now, PAUSE);
        if !self.is_pressing() || is_early {
            return None;
        }
        self.sent = Some(now);
        self.is_sending = true;
        Some(std::mem::take(&mut self.waiting))
    }

    /// The call has been answered, or could not be made.
    pub fn sent(&mut self) {
        self.is_sending = false;
    }

    /// Whether growth is to be told now.
    pub fn is_growth_due(&mut self, now: Duration) -> bool {
        let is_due = !has_passed_less(self.grown, now, GROWTH);
        if is_due {
            self.grown = Some(now);
        }
        is_due
    }
}

/// A clock that was set back has passed any time.
fn has_passed_less(since: Option<Duration>, now: Duration, period: Duration) -> bool {
    since.and_then(|since| now.checked_sub(since)).is_some_and(|passed| passed < period)
}

/// An answer on its way to the client.
#[derive(Debug)]
pub struct Answering {
    request_id: String,
    is_success: bool,
    is_stream: bool,
    is_ended: bool,
    /// Pieces of the answer: tokens, where it is streamed.
    pieces: u64,
    told: u64,
    /// The largest piece: the one with `usage` in it is larger than a token's.
    largest: usize,
    cached_tokens: Option<u64>,
}

impl Answering {
    /// The answer to the request that was routed under this id.
    pub fn new(request_id: String) -> Self {
        Self {
            request_id,
            is_success: false,
            is_stream: false,
            is_ended: false,
            pieces: 0,
            told: 0,
            largest: 0,
            cached_tokens: None,
        }
    }

    /// Its headers came.
    pub fn on_headers(&mut self, status: Option<u16>, is_stream: bool) {
        self.is_success = status.is_some_and(|status| (200..300).contains(&status));
        self.is_stream = is_stream;
    }

    /// A piece came. Says whether it is a first token, to be reported: the first piece of
    /// an answer that is not streamed comes with the last token, and would teach the
    /// indexer that prefilling takes as long as generating.
    pub fn on_piece(&mut self, size: usize, end: bool) -> bool {
        self.is_ended |= end;
        if size == 0 || !self.is_success {
            return false;
        }
        self.pieces = self.pieces.saturating_add(1);
        self.is_stream && self.pieces == 1
    }

    /// No more comes after what came.
    pub fn on_end(&mut self) {
        self.is_ended = true;
    }

    /// The part of a piece of this size that may hold `usage`: start and length. Of a
    /// streamed answer only those are looked at that are larger than all before, a few
    /// in a thousand.
    pub fn worth_reading(&mut self, size: usize) -> Option<(usize, usize)> {
        let is_larger = size > self.largest;
        self.largest = self.largest.max(size);
        let is_worth = self.is_success && size > 0 && (is_larger || !self.is_stream);
        let start = size.saturating_sub(USAGE_BYTES);
        is_worth.then_some((start, size.saturating_sub(start)))
    }

    /// Takes in such a part.
    pub fn on_read(&mut self, bytes: &[u8]) {
        let at = bytes.windows(CACHED_TOKENS.len()).rposition(|window| window == CACHED_TOKENS);
        let Some(digits) =
            at.and_then(|at| at.checked_add(CACHED_TOKENS.len())).and_then(|at| bytes.get(at..))
        else {
            return;
        };
        let digits = digits.trim_ascii_start();
        let length = digits.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let number = digits.get(..length).and_then(|digits| std::str::from_utf8(digits).ok());
        self.cached_tokens = number.and_then(|number| number.parse().ok()).or(self.cached_tokens);
    }

    /// The report of its first piece.
    pub fn first(&self) -> LifecycleReport {
        self.report(LifecycleEvent::FirstToken)
    }

    /// The report of its growth, where there is any since the last.
    pub fn growth(&mut self) -> Option<LifecycleReport> {
        let has_grown = self.is_stream && self.pieces > self.told.max(1);
        self.told = self.pieces;
        has_grown.then(|| self.report(LifecycleEvent::Output))
    }

    /// The report of its end.
    pub fn last(&self) -> LifecycleReport {
        let is_whole = self.is_ended && self.is_success;
        self.report(if is_whole { LifecycleEvent::Done } else { LifecycleEvent::Aborted })
    }

    fn report(&self, event: LifecycleEvent) -> LifecycleReport {
        LifecycleReport {
            request_id: self.request_id.clone(),
            event,
            tokens: (self.is_stream && self.pieces > 0).then_some(self.pieces),
            cached_tokens: self.cached_tokens,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    fn answering(is_stream: bool) -> Answering {
        let mut answering = Answering::new("r".into());
        answering.on_headers(Some(200), is_stream);
        answering
    }

    #[test]
    fn one_batch_at_a_time_and_not_too_often() {
        let mut reports = Reports::default();
        assert_eq!(reports.due(at(0)), None);
        assert!(reports.add(answering(true).first()));
        assert_eq!(reports.due(at(0)).map(|batch| batch.len()), Some(1));
        assert!(reports.add(answering(true).last()));
        assert_eq!(reports.due(at(100)), None, "the last one is under way");
        reports.sent();
        assert!(reports.due(at(100)).is_some());
        reports.sent();
        assert!(reports.add(answering(true).last()));
        assert_eq!(reports.due(at(110)), None);
        assert!(reports.due(at(125)).is_some());
    }

    #[test]
    fn what_does_not_fit_is_dropped() {
        let mut reports = Reports::default();
        let added = (0..5000).filter(|_| reports.add(answering(true).first())).count();
        assert_eq!(added, MAX_WAITING);
    }

    #[test]
    fn pieces_of_a_streamed_answer_are_its_tokens() {
        let mut answer = answering(true);
        assert!(answer.on_piece(10, false));
        assert_eq!(answer.first().tokens, Some(1));
        assert_eq!(answer.growth(), None);
        assert!(!answer.on_piece(10, false));
        assert_eq!(answer.growth().unwrap().tokens, Some(2));
        assert_eq!(answer.growth(), None);
        assert_eq!(answer.last().event, LifecycleEvent::Aborted);
        assert!(!answer.on_piece(0, true));
        assert_eq!((answer.last().event, answer.last().tokens), (LifecycleEvent::Done, Some(2)));
    }

    #[test]
    fn an_answer_in_one_piece_has_no_first_token() {
        let mut answer = answering(false);
        assert!(!answer.on_piece(10, true));
        assert_eq!((answer.last().event, answer.last().tokens), (LifecycleEvent::Done, None));
    }

    #[test]
    fn an_error_is_no_first_token_and_no_end() {
        let mut answer = Answering::new("r".into());
        answer.on_headers(Some(503), false);
        assert!(!answer.on_piece(10, true));
        let last = answer.last();
        assert_eq!((last.event, last.tokens), (LifecycleEvent::Aborted, None));
    }

    #[test]
    fn cached_tokens_are_read_of_the_last_usage() {
        let mut answer = answering(false);
        assert_eq!(answer.worth_reading(5000), Some((2952, 2048)));
        answer.on_read(br#"{"usage":{"prompt_tokens_details":{"cached_tokens": 48}}}"#);
        assert_eq!(answer.last().cached_tokens, Some(48));
        answer.on_read(br#"{"cached_tokens":null}"#);
        assert_eq!(answer.last().cached_tokens, Some(48));
        for cut in 0..20 {
            answer.on_read(&br#""cached_tokens":7"#[..cut.min(17)]);
        }
        assert_eq!(answer.last().cached_tokens, Some(7));
    }

    #[test]
    fn of_a_stream_only_the_largest_pieces_are_read() {
        let mut answer = answering(true);
        let read = [250, 240, 250, 251, 249].map(|size| answer.worth_reading(size).is_some());
        assert_eq!(read, [true, false, false, true, false]);
    }
}
