/*!
KV event batches as they come over ZMQ, of every engine and release.

A message is `[topic][sequence, 8 bytes big-endian][MessagePack]`, the payload
`[timestamp, [event…], data-parallel rank]`. vLLM to 0.23 and SGLang write an
event as an array with the tag first, vLLM since 0.24 and TensorRT-LLM as a map
with the tag under `type`; fields were only ever appended, so one table of
positions covers the arrays of all releases. Sources: vLLM's `kv_events.py`,
checked in its released wheels, and Dynamo's `zmq_wire` for what SGLang adds.

Decoding is a walk over the bytes, not serde: with serde one unknown tag or one
broken event loses the whole batch, and a forged length can cost memory. Here an
event that cannot be read is passed over by its extent, and the rest goes on.
*/

mod cursor;
mod event;
mod name;

use cursor::{Cursor, Head};

pub(super) use event::{Event, Key, Scope, Stored};
pub(super) use name::of_text;

/// Why a batch or an event could not be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Reject {
    #[error("not three frames with 8 bytes of sequence number in the second")]
    Frames,
    #[error("the payload is not an array of a timestamp, events and a rank")]
    BatchLayout,
    #[error("the payload ends inside an event")]
    Truncated,
    #[error("no event of this name is known")]
    UnknownEvent,
    #[error("a field is missing or of another type")]
    Malformed,
    #[error("a block hash is neither an integer nor 1 to 32 bytes, nor text of one")]
    BlockHash,
    #[error("token ids come in pairs, which requests are not hashed by")]
    TokenPairs,
    #[error("the engine stores blocks and does not name their tokens")]
    NoTokens,
    #[error("the number of token ids is not block size × blocks")]
    TokenCount,
    #[error("the block size is not the worker's: check the configured one")]
    BlockSize,
    #[error("the parent block was never announced, or was lost: the chain waits for it")]
    UnknownParent,
    #[error("a chain of blocks contains its own parent")]
    SelfParent,
    #[error("the index is at its memory ceiling: raise index.max_bytes")]
    IndexFull,
    #[error("the batch names a rank that the worker is not configured to have")]
    RankOutOfRange,
}

impl Reject {
    /// The name under which it is counted; stable.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Frames => "frames",
            Self::BatchLayout => "batch_layout",
            Self::Truncated => "truncated",
            Self::UnknownEvent => "unknown_event",
            Self::Malformed => "malformed",
            Self::BlockHash => "block_hash",
            Self::TokenPairs => "token_pairs",
            Self::NoTokens => "no_tokens",
            Self::TokenCount => "token_count",
            Self::BlockSize => "block_size",
            Self::UnknownParent => "unknown_parent",
            Self::SelfParent => "self_parent",
            Self::IndexFull => "index_full",
            Self::RankOutOfRange => "rank_out_of_range",
        }
    }
}

/// The sequence number and the payload of a published message.
pub(super) fn frames<F: AsRef<[u8]>>(frames: &[F]) -> Result<(u64, &[u8]), Reject> {
    let [_topic, sequence, payload] = frames else { return Err(Reject::Frames) };
    let sequence = sequence.as_ref().try_into().map_err(|_| Reject::Frames)?;
    Ok((u64::from_be_bytes(sequence), payload.as_ref()))
}

/// A batch whose events are still to be read.
#[derive(Debug, Clone)]
pub(super) struct Batch<'a> {
    /// The engine's clock, in seconds.
    pub(super) timestamp: Option<f64>,
    /// The engine's own data-parallel rank; a negative one is out of any range.
    pub(super) rank: Option<u64>,
    events: Events<'a>,
}

impl<'a> Batch<'a> {
    pub(super) fn decode(payload: &'a [u8]) -> Result<Self, Reject> {
        let mut cursor = Cursor::new(payload);
        let length = match cursor.head() {
            Ok(Head::Array(length)) if length >= 2 => length,
            _ => return Err(Reject::BatchLayout),
        };
        let timestamp = timestamp(&mut cursor).ok_or(Reject::BatchLayout)?;
        let Ok(Head::Array(count)) = cursor.head() else { return Err(Reject::BatchLayout) };
        let events = Events { cursor: cursor.clone(), left: count };
        // The rank stands behind the events but is needed before them.
        let rank = match length > 2 && cursor.skip_many(count).is_ok() {
            true => match cursor.head() {
                Ok(Head::Unsigned(rank)) => Some(rank),
                Ok(Head::Negative(_)) => Some(u64::MAX),
                _ => None,
            },
            false => None,
        };
        Ok(Self { timestamp, rank, events })
    }

    pub(super) fn events(&self) -> Events<'a> {
        self.events.clone()
    }
}

/// A timestamp of any kind; an odd one is passed over, not worth a batch.
fn timestamp(cursor: &mut Cursor<'_>) -> Option<Option<f64>> {
    let mut value = cursor.clone();
    cursor.skip().ok()?;
    Some(match value.head() {
        Ok(Head::Float(seconds)) => Some(seconds),
        Ok(Head::Unsigned(seconds)) => Some(seconds as f64),
        _ => None,
    })
}

/// The events of a batch, each decoded when it is asked for, so that a payload
/// of many tiny events cannot cost more memory than its own bytes.
#[derive(Debug, Clone)]
pub(super) struct Events<'a> {
    cursor: Cursor<'a>,
    left: usize,
}

impl<'a> Iterator for Events<'a> {
    type Item = Result<Event<'a>, Reject>;

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let mut end = self.cursor.clone();
        let event = event::decode(&mut self.cursor);
        if event.is_err() {
            if end.skip().is_err() {
                self.left = 0;
                return Some(Err(Reject::Truncated));
            }
            self.cursor = end;
        }
        Some(event)
    }
}

#[cfg(test)]
mod tests;
