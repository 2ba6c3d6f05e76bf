//! Who may be chosen.

use std::sync::Arc;

use super::{Question, RouteError};
use crate::fleet::{Rank, Worker};

/// A candidate's worker and rank, beside what the policy sees of it.
#[derive(Clone, Copy)]
pub(super) struct Seat<'v> {
    pub(super) worker: &'v Arc<Worker>,
    pub(super) rank: &'v Rank,
}

/// Every (worker, rank) that may be chosen.
pub(super) fn seats<'v>(
    workers: &'v [Arc<Worker>],
    question: &Question,
) -> Result<Vec<Seat<'v>>, RouteError> {
    let excluded = |worker: &Worker| question.exclude.iter().any(|id| **id == *worker.name);
    if let Some(pin) = &question.pin {
        let refuse = |why| Err(RouteError::Pin(pin.worker.clone(), why));
        let named = |name: &str| workers.iter().find(|worker| *worker.name == *name);
        // A worker's id may itself end in a colon and digits.
        let found = named(&String::from(pin.clone())).map(|worker| (worker, None));
        let Some((worker, rank)) = found.or_else(|| Some((named(&pin.worker)?, pin.rank))) else {
            return refuse("does not exist or does not serve the model");
        };
        if !worker.health.is_up() {
            return refuse("is down");
        }
        if excluded(worker) {
            return refuse("is excluded by the same request");
        }
        let wanted = |seat: &&Rank| rank.is_none_or(|rank| rank == seat.rank);
        let seats: Vec<_> =
            worker.ranks.iter().filter(wanted).map(|rank| Seat { worker, rank }).collect();
        return if seats.is_empty() { refuse("has no such rank") } else { Ok(seats) };
    }
    let seats: Vec<_> = workers
        .iter()
        .filter(|worker| worker.health.is_up() && !excluded(worker))
        .flat_map(|worker| worker.ranks.iter().map(move |rank| Seat { worker, rank }))
        .collect();
    if seats.is_empty() { Err(RouteError::NoWorker) } else { Ok(seats) }
}
