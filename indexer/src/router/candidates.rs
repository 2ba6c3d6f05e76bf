//! What the policy sees: what each worker holds, and how busy it is.

use std::sync::atomic::Ordering;
use std::time::Instant;

use hashbrown::HashMap;
use warmpath_radix::Holder;

use super::seats::Seat;
use super::{Hashes, Router};
use crate::policy::Candidate;

impl Router {
    /// What the policy sees: for each seat its overlap and its load.
    pub(super) fn candidates(
        &self,
        seats: &[Seat<'_>],
        hashes: &Hashes,
        now: Instant,
    ) -> Vec<Candidate> {
        let mut at = HashMap::with_capacity(seats.len());
        let mut candidates: Vec<Candidate> = seats
            .iter()
            .enumerate()
            .map(|(position, seat)| {
                at.insert(seat.worker.holder(seat.rank.rank), position);
                Candidate {
                    block_size: seat.worker.block_size(seat.rank),
                    load: seat.rank.load.load(now),
                    in_flight: self.fleet.book().in_flight(&seat.rank.book, now),
                    turn: seat.rank.turn.load(Ordering::Relaxed),
                    ..Candidate::default()
                }
            })
            .collect();
        match hashes {
            Hashes::Unsized(hashes) => self.look_up(hashes, None, &at, &mut candidates),
            Hashes::BySize(all) => {
                for (size, hashes) in all {
                    if candidates.iter().any(|candidate| candidate.block_size == *size) {
                        self.look_up(hashes, Some(*size), &at, &mut candidates);
                    }
                }
                let known = |one: &&Candidate| {
                    one.block_size > 0 && all.iter().all(|(size, _)| *size != one.block_size)
                };
                let unmatched = candidates.iter().filter(known).count();
                self.metrics.block_size_missing(unmatched);
            }
        }
        if self.fleet.book().config().track_active_blocks {
            self.look_at_active(seats, hashes, &at, &mut candidates);
        }
        if self.saturation.has_threshold() {
            for (seat, candidate) in seats.iter().zip(&mut candidates) {
                let kv_blocks = seat.worker.kv_blocks(seat.rank);
                candidate.busy = self.saturation.is_busy(seat.worker, kv_blocks, candidate);
            }
        }
        candidates
    }

    /// Writes what requests in flight use into the candidates.
    fn look_at_active(
        &self,
        seats: &[Seat<'_>],
        hashes: &Hashes,
        at: &HashMap<Holder, usize>,
        candidates: &mut [Candidate],
    ) {
        let book = self.fleet.book();
        let output = book.config().track_output_blocks;
        let active = book.active();
        let mut share = |size: Option<u32>, hashes: &[u64]| {
            active.matches(hashes, |holder, blocks, uses| {
                let Some(&position) = at.get(&holder) else { return };
                if size.is_none_or(|size| size == candidates[position].block_size) {
                    candidates[position].shared_blocks = blocks;
                    candidates[position].shared_by = uses;
                }
            });
        };
        match hashes {
            Hashes::Unsized(hashes) => share(None, hashes),
            Hashes::BySize(all) => {
                all.iter().for_each(|(size, hashes)| share(Some(*size), hashes));
            }
        }
        for (seat, candidate) in seats.iter().zip(candidates) {
            candidate.active_blocks = active.at(seat.worker.holder(seat.rank.rank)) as f64;
            if output && candidate.block_size > 0 {
                let size = f64::from(candidate.block_size);
                candidate.active_blocks += candidate.in_flight.output_tokens / size;
            }
            let blocks = hashes.of(candidate.block_size).map_or(0, <[u64]>::len) as f64;
            candidate.new_blocks = (blocks - f64::from(candidate.shared_blocks)).max(0.0);
        }
    }

    /// Writes what the index knows into the candidates of that block size.
    fn look_up(
        &self,
        hashes: &[u64],
        size: Option<u32>,
        at: &HashMap<Holder, usize>,
        candidates: &mut [Candidate],
    ) {
        for found in self.fleet.index().find_matches(hashes) {
            let Some(&position) = at.get(&found.holder) else { continue };
            let candidate = &mut candidates[position];
            if size.is_none_or(|size| size == candidate.block_size) {
                candidate.overlap_blocks = found.predicted;
                candidate.predicted_blocks = found.predicted - found.blocks;
                // What is predicted for the device will not be fetched from elsewhere.
                candidate.host_blocks = found.host.saturating_sub(found.predicted);
                candidate.disk_blocks = found.disk.saturating_sub(found.host.max(found.predicted));
            }
        }
    }
}
