//! A decision in a few fixed bytes, for the stream.
//!
//! Reading a [`Decision`] field by field from MessagePack takes the VM in Envoy some
//! 5 µs, a twentieth of what a routed request costs in all; this takes a tenth of
//! that. It holds what `Decision` holds but the scores: with those an answer goes
//! as MessagePack, whose maps never begin with a zero byte as these do.
//!
//! ```text
//! u8 0 · u8 reason · u32 rank, ranks, overlap_blocks, total_blocks, block_size
//! · u64 index_age_ms, all ones where there is none · u8 number of fallbacks
//! · worker, endpoint, cluster, each fallback: u16 length · UTF-8 · u32 predicted_blocks
//! ```
//!
//! All numbers are little-endian. Whatever follows is skipped, and a number that is
//! missing at the end is 0, so that fields can be added.

use crate::{Decision, Reason};

const TAG: u8 = 0;

/// Appends a decision to `out`; `false`, and nothing, for one that has to go as
/// MessagePack: with scores, or a text longer than any address.
pub fn write(decision: &Decision, out: &mut Vec<u8>) -> bool {
    let begin = out.len();
    let is_written = decision.scores.is_none() && put(decision, out).is_some();
    if !is_written {
        out.truncate(begin);
    }
    is_written
}

fn put(decision: &Decision, out: &mut Vec<u8>) -> Option<()> {
    out.extend_from_slice(&[TAG, number(decision.reason)]);
    for number in [
        decision.rank,
        decision.ranks,
        decision.overlap_blocks,
        decision.total_blocks,
        decision.block_size,
    ] {
        out.extend_from_slice(&number.to_le_bytes());
    }
    out.extend_from_slice(&decision.index_age_ms.unwrap_or(u64::MAX).to_le_bytes());
    out.push(u8::try_from(decision.fallbacks.len()).ok()?);
    let named = [&decision.worker, &decision.endpoint, &decision.cluster];
    for text in named.into_iter().chain(&decision.fallbacks) {
        out.extend_from_slice(&u16::try_from(text.len()).ok()?.to_le_bytes());
        out.extend_from_slice(text.as_bytes());
    }
    out.extend_from_slice(&decision.predicted_blocks.to_le_bytes());
    Some(())
}

/// Reads a decision; nothing where these are not the bytes of one.
pub fn read(mut bytes: &[u8]) -> Option<Decision> {
    let [tag, reason] = take(&mut bytes)?;
    let reason = REASONS.into_iter().find(|known| number(*known) == reason)?;
    let mut count = || take(&mut bytes).map(u32::from_le_bytes);
    let (rank, ranks) = (count()?, count()?);
    let (overlap_blocks, total_blocks, block_size) = (count()?, count()?, count()?);
    let age = u64::from_le_bytes(take(&mut bytes)?);
    let [fallbacks] = take(&mut bytes)?;
    let decision = Decision {
        worker: text(&mut bytes)?,
        rank,
        ranks,
        endpoint: text(&mut bytes)?,
        cluster: text(&mut bytes)?,
        fallbacks: (0..fallbacks).map(|_| text(&mut bytes)).collect::<Option<_>>()?,
        overlap_blocks,
        total_blocks,
        block_size,
        predicted_blocks: take(&mut bytes).map_or(0, u32::from_le_bytes),
        reason,
        index_age_ms: (age != u64::MAX).then_some(age),
        scores: None,
    };
    (tag == TAG).then_some(decision)
}

const REASONS: [Reason; 3] = [Reason::Prefix, Reason::Load, Reason::Pinned];

/// One that is new here goes into [`REASONS`] too.
fn number(reason: Reason) -> u8 {
    match reason {
        Reason::Prefix => 0,
        Reason::Load => 1,
        Reason::Pinned => 2,
    }
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (head, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(*head)
}

fn text(bytes: &mut &[u8]) -> Option<String> {
    let length = u16::from_le_bytes(take(bytes)?);
    let (head, rest) = bytes.split_at_checked(length.into())?;
    *bytes = rest;
    std::str::from_utf8(head).ok().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decision(reason: Reason) -> Decision {
        Decision {
            worker: "0".into(),
            rank: 1,
            ranks: 2,
            endpoint: "10.0.0.1:8100".into(),
            cluster: String::new(),
            fallbacks: vec!["10.0.0.2:8100".into(), "10.0.0.3:8100".into()],
            overlap_blocks: 3,
            predicted_blocks: 2,
            total_blocks: 7,
            block_size: 16,
            reason,
            index_age_ms: Some(9),
            scores: None,
        }
    }

    fn written(decision: &Decision) -> Vec<u8> {
        let mut bytes = Vec::new();
        assert!(write(decision, &mut bytes));
        bytes
    }

    #[test]
    fn every_decision_is_read_as_it_was_written() {
        for reason in REASONS {
            let mut decision = decision(reason);
            assert_eq!(read(&written(&decision)), Some(decision.clone()));
            decision.index_age_ms = None;
            decision.fallbacks.clear();
            assert_eq!(read(&[written(&decision), vec![1, 2]].concat()), Some(decision));
        }
    }

    #[test]
    fn scores_and_endless_names_are_left_to_message_pack() {
        let mut out = vec![7];
        let scored = Decision { scores: Some(Vec::new()), ..decision(Reason::Load) };
        assert!(!write(&scored, &mut out));
        let long = Decision { cluster: "c".repeat(1 << 16), ..decision(Reason::Load) };
        assert!(!write(&long, &mut out));
        assert_eq!(out, [7]);
    }

    #[test]
    fn a_part_of_one_or_something_else_is_none() {
        let whole = written(&decision(Reason::Prefix));
        let before_additions = whole.len() - 4;
        let old = Decision { predicted_blocks: 0, ..decision(Reason::Prefix) };
        assert_eq!(read(&whole[..before_additions]), Some(old));
        for cut in 0..before_additions {
            assert_eq!(read(&whole[..cut]), None, "cut at {cut}");
        }
        assert_eq!(read(&rmp_serde::to_vec_named(&decision(Reason::Prefix)).unwrap()), None);
    }
}
