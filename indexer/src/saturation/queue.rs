//! The requests that are held, in the order in which they go.
//!
//! The order of `wspt` changes as requests age, so it is computed when it is asked for,
//! over at most `max_held` of them; a heap would have to be built anew each time.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::time::Instant;

use super::{QueuePolicy, SaturationConfig};

/// One held request.
#[derive(Debug)]
pub(crate) struct Waiting<T> {
    /// Whom it waits for: requests of one group are eligible for the same workers.
    pub(crate) group: Option<usize>,
    /// Higher goes first.
    pub(crate) priority: i32,
    /// Tokens that the best worker would have to prefill.
    pub(crate) uncached: u64,
    /// Since when it is held.
    pub(crate) since: Instant,
    /// Until when.
    pub(crate) until: Instant,
    /// The request.
    pub(crate) request: T,
}

/// The held requests, by numbers that grow.
#[derive(Debug)]
pub(crate) struct Queue<T> {
    last: u64,
    waiting: BTreeMap<u64, Waiting<T>>,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self { last: 0, waiting: BTreeMap::new() }
    }
}

impl<T> Queue<T> {
    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Whether one of the group is held.
    pub(crate) fn has_group(&self, group: Option<usize>) -> bool {
        self.waiting.values().any(|one| one.group == group)
    }

    /// Holds a request; its number.
    pub(crate) fn add(&mut self, waiting: Waiting<T>) -> u64 {
        self.last += 1;
        self.waiting.insert(self.last, waiting);
        self.last
    }

    /// Takes a request out.
    pub(crate) fn take(&mut self, number: u64) -> Option<Waiting<T>> {
        self.waiting.remove(&number)
    }

    /// Puts it back in its place.
    pub(crate) fn put_back(&mut self, number: u64, waiting: Waiting<T>) {
        self.waiting.insert(number, waiting);
    }

    /// The numbers in the order in which they go.
    pub(crate) fn order(&self, config: &SaturationConfig, now: Instant) -> Vec<u64> {
        let mut order: Vec<(u64, &Waiting<T>)> =
            self.waiting.iter().map(|(number, one)| (*number, one)).collect();
        match config.queue_policy {
            QueuePolicy::Fcfs => {
                order.sort_by_key(|(number, one)| (Reverse(one.priority), *number))
            }
            QueuePolicy::Wspt => {
                let weight = |one: &Waiting<T>| one.weight(config, now);
                order.sort_by(|(_, a), (_, b)| weight(b).total_cmp(&weight(a)));
            }
        }
        order.into_iter().map(|(number, _)| number).collect()
    }
}

impl<T> Waiting<T> {
    /// Priority and age by the work; the greatest goes first. A negative priority is one
    /// that has to age longer.
    fn weight(&self, config: &SaturationConfig, now: Instant) -> f64 {
        let waited = now.saturating_duration_since(self.since).as_secs_f64() * 1000.0;
        let aged = waited / config.ageing_ms.max(1) as f64;
        let urgency = 1.0 + f64::from(self.priority) + aged;
        let work = self.uncached.max(1) as f64;
        if urgency > 0.0 { urgency / work } else { urgency * work }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn queue(entries: &[(i32, u64, u64)]) -> (Queue<()>, Instant) {
        let begin = Instant::now();
        let mut queue = Queue::default();
        for (priority, uncached, since) in entries {
            let since = begin + Duration::from_millis(*since);
            queue.add(Waiting {
                group: Some(0),
                priority: *priority,
                uncached: *uncached,
                since,
                until: since + Duration::from_secs(1),
                request: (),
            });
        }
        (queue, begin)
    }

    fn config(queue_policy: QueuePolicy) -> SaturationConfig {
        SaturationConfig { queue_policy, ..SaturationConfig::default() }
    }

    #[test]
    fn first_come_first_served_within_a_priority() {
        let (mut queue, now) = queue(&[(0, 9, 0), (1, 9, 1), (0, 1, 2), (1, 1, 3)]);
        assert_eq!(queue.order(&config(QueuePolicy::Fcfs), now), [2, 4, 1, 3]);
        let second = queue.take(2).unwrap();
        assert_eq!(queue.order(&config(QueuePolicy::Fcfs), now), [4, 1, 3]);
        queue.put_back(2, second);
        assert_eq!(queue.order(&config(QueuePolicy::Fcfs), now), [2, 4, 1, 3]);
    }

    #[test]
    fn the_least_work_goes_first_until_the_greater_has_aged() {
        let (queue, begin) = queue(&[(0, 4000, 0), (0, 1000, 500), (3, 3000, 500), (-5, 1, 0)]);
        let at =
            |millis| queue.order(&config(QueuePolicy::Wspt), begin + Duration::from_millis(millis));
        assert_eq!(at(500), [3, 2, 1, 4]);
        let mut aged = config(QueuePolicy::Wspt);
        aged.ageing_ms = 10;
        let (late, begin) = self::queue(&[(0, 4000, 0), (0, 1000, 1990)]);
        assert_eq!(late.order(&aged, begin + Duration::from_millis(2000)), [1, 2]);
    }

    #[test]
    fn groups_are_known_while_one_of_them_waits() {
        let (mut queue, _) = queue(&[(0, 1, 0)]);
        assert!(queue.has_group(Some(0)) && !queue.has_group(Some(1)));
        assert!(queue.take(1).is_some() && queue.take(1).is_none());
        assert!(queue.is_empty() && !queue.has_group(Some(0)));
    }
}
