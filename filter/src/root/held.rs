//! Questions that the indexer holds while all workers are busy.

use std::time::Duration;

use warmpath_protocol::stream;

use super::{Call, Purpose, Root};
use crate::host::{Host, Reply};
use crate::message;

/// Longest hold that is believed; a request must end some time.
const LONGEST: Duration = Duration::from_secs(60);

impl Root {
    /// Whether that is no answer yet, but word of when it comes: the deadline counts from
    /// then on, and the indexer is alive.
    pub(super) fn is_held(&mut self, host: &dyn Host, number: u32, reply: &Reply) -> bool {
        if reply.status != Some(stream::HELD) {
            return false;
        }
        let Ok(held) = message::read::<stream::Held>(&reply.body) else { return false };
        if let Some(Purpose::Decision(_, wait)) = self.calls.get_mut(&Call::Stream(number)) {
            wait.prolong(Duration::from_millis(held.hold_ms).min(LONGEST));
            self.note_decision(host, true);
        }
        true
    }

    /// Takes the question of a request back that is gone, where it is held.
    pub(super) fn take_back(&mut self, host: &dyn Host, context: u32) {
        let is_its = |purpose: &Purpose| matches!(purpose, Purpose::Decision(one, wait) if *one == context && wait.is_held());
        let held = self.calls.extract_if(.., |_, purpose| is_its(purpose));
        let numbers: Vec<u32> = held
            .filter_map(|(call, _)| match call {
                Call::Stream(number) => Some(number),
                Call::Http(_) => None,
            })
            .collect();
        for number in numbers {
            self.channel.take_back(host, number);
        }
    }
}
