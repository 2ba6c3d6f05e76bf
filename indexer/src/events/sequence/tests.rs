//! Which batch is next, which is not, and which belongs to another life.

use super::*;

/// A batch whose bytes are its life and its number.
fn mark(life: u64, seq: u64) -> Mark {
    let payload = [life.to_be_bytes(), seq.to_be_bytes()].concat();
    Mark::new(seq, Some((life * 10_000 + seq % 10_000) as f64), &payload)
}

fn applied(seqs: impl IntoIterator<Item = u64>) -> Sequence {
    let mut sequence = Sequence::default();
    seqs.into_iter().for_each(|seq| sequence.advance(mark(1, seq)));
    sequence
}

#[test]
fn the_next_number_applies_and_a_later_one_is_a_gap() {
    assert_eq!(Sequence::default().step(mark(1, 0)), Step::Apply);
    assert_eq!(Sequence::default().step(mark(1, 5)), Step::Gap { from: 0, until: 5 });
    let sequence = applied(0..3);
    assert_eq!(sequence.last(), Some(2));
    assert_eq!(sequence.step(mark(1, 3)), Step::Apply);
    assert_eq!(sequence.step(mark(1, 7)), Step::Gap { from: 3, until: 7 });
}

#[test]
fn the_same_bytes_again_are_a_duplicate_and_others_a_restart() {
    let sequence = applied(0..5);
    for seq in 0..5 {
        assert_eq!(sequence.step(mark(1, seq)), Step::Duplicate);
        assert_eq!(sequence.step(mark(2, seq)), Step::Restart);
    }
    let undecodable = Mark { timestamp: None, ..mark(2, 4) };
    assert_eq!(sequence.step(undecodable), Step::Restart);
}

#[test]
fn a_clock_that_went_back_does_not_hide_a_restart() {
    let sequence = applied(0..5);
    let restarted = Mark { timestamp: Some(0.0), ..mark(2, 0) };
    assert_eq!(sequence.step(restarted), Step::Restart);
}

#[test]
fn beyond_memory_the_engines_clock_decides() {
    let sequence = applied(0..3000);
    assert_eq!(sequence.step(mark(1, 1)), Step::Duplicate);
    assert_eq!(sequence.step(mark(2, 1)), Step::Restart);
    assert_eq!(sequence.step(Mark { timestamp: None, ..mark(1, 1) }), Step::Duplicate);
    // The first batch is remembered for good.
    assert_eq!(sequence.step(mark(1, 0)), Step::Duplicate);
    assert_eq!(sequence.step(Mark { timestamp: Some(0.0), ..mark(2, 0) }), Step::Restart);
}

#[test]
fn a_number_out_of_this_world_does_not_end_the_stream() {
    let mut sequence = applied(0..3);
    let forged = Mark { timestamp: Some(10_002.5), ..mark(1, u64::MAX) };
    assert_eq!(sequence.step(forged), Step::Gap { from: 3, until: u64::MAX });
    sequence.advance(forged);
    assert_eq!(sequence.step(forged), Step::Duplicate);
    // The stream itself looks like another life then, and begins anew.
    assert_eq!(sequence.step(mark(1, 3)), Step::Restart);
    sequence.reset();
    assert_eq!(sequence.step(mark(1, 0)), Step::Apply);
}
