//! The seeds' load metrics: one ZMQ frame, no topic, JSON.
//!
//! `{"num_waiting_reqs": int, "kv_cache_usage": float}`; the first version of
//! the examples said `gpu_cache_usage`. A frame that is not this is counted
//! with its worker and dropped: the load that it would have told stays unknown
//! at worst, and the next frame counts again.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Deserialize;
use tokio_util::sync::CancellationToken;
use zeromq::{Socket, SocketRecv, SubSocket, ZmqMessage};

use super::Report;
use crate::events::guard::Guard;
use crate::fleet::Worker;

/// First wait before a connection is tried again; doubles up to [`RETRY_MOST`].
const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_MOST: Duration = Duration::from_secs(2);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// Of the frame; other fields are skipped.
#[derive(Deserialize)]
struct Frame {
    num_waiting_reqs: f64,
    #[serde(alias = "gpu_cache_usage")]
    kv_cache_usage: f64,
    /// Not in the seeds: which rank it is about. Without it, all of them.
    data_parallel_rank: Option<u32>,
}

/// Reads a message; the error is the reason to count.
fn read(message: &ZmqMessage) -> Result<(Option<u32>, Report), &'static str> {
    let frame = match (message.len(), message.get(0)) {
        (1, Some(frame)) => frame,
        _ => return Err("not_one_frame"),
    };
    let value: serde_json::Value = serde_json::from_slice(frame).map_err(|_| "not_json")?;
    // A list would be read as the fields in order.
    let frame =
        Frame::deserialize(value.as_object().ok_or("wrong_fields")?).map_err(|_| "wrong_fields")?;
    let sound = frame.num_waiting_reqs >= 0.0 && (0.0..=1.0).contains(&frame.kv_cache_usage);
    let report =
        Report { waiting: frame.num_waiting_reqs, running: None, kv_usage: frame.kv_cache_usage };
    sound.then_some((frame.data_parallel_rank, report)).ok_or("out_of_range")
}

impl Worker {
    /// Takes one message of the metrics socket.
    pub(crate) fn load_message(&self, message: &ZmqMessage) {
        let now = Instant::now();
        let rejected = match read(message) {
            Ok((None, report)) => {
                self.ranks.iter().for_each(|rank| self.report(rank, report, now));
                return;
            }
            Ok((Some(rank), report)) => match self.ranks.get(rank as usize) {
                Some(rank) => return self.report(rank, report, now),
                None => "rank_out_of_range",
            },
            Err(reason) => reason,
        };
        if self.load_rejected.count(rejected) {
            tracing::warn!(worker = %self.name, reason = rejected, "load frame rejected; later ones of this kind are only counted");
        }
    }
}

/// Follows a worker's metrics socket until `stop`.
pub(crate) async fn follow(worker: Arc<Worker>, endpoint: String, stop: CancellationToken) {
    let mut wait = RETRY_FIRST;
    while !stop.is_cancelled() {
        let heard = stop.run_until_cancelled(listen(&worker, &endpoint)).await;
        match heard {
            Some(true) => wait = RETRY_FIRST,
            Some(false) => wait = (wait * 2).min(RETRY_MOST),
            None => return,
        }
        stop.run_until_cancelled(tokio::time::sleep(wait)).await;
    }
}

/// Listens until the connection fails; says whether it ever stood.
async fn listen(worker: &Worker, endpoint: &str) -> bool {
    let mut socket = SubSocket::new();
    let Ok(guard) = Guard::connect(endpoint, CONNECT_TIMEOUT).await else { return false };
    if socket.connect(&guard.endpoint).await.is_err() || socket.subscribe("").await.is_err() {
        return false;
    }
    while let Ok(message) = socket.recv().await {
        worker.load_message(&message);
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(text: &str) -> ZmqMessage {
        ZmqMessage::from(text.to_owned())
    }

    #[test]
    fn both_spellings_of_the_seeds_are_read() {
        for name in ["kv_cache_usage", "gpu_cache_usage"] {
            let (rank, report) =
                read(&message(&format!(r#"{{"num_waiting_reqs":3,"{name}":0.25}}"#))).unwrap();
            assert_eq!(rank, None);
            assert_eq!(report, Report { waiting: 3.0, running: None, kv_usage: 0.25 });
        }
    }

    #[test]
    fn every_other_frame_has_a_reason() {
        let mut two = message("{}");
        two.push_back("x".into());
        assert_eq!(read(&two), Err("not_one_frame"));
        assert_eq!(read(&message("nonsense")), Err("not_json"));
        assert_eq!(read(&message(r#"{"num_waiting_reqs":1}"#)), Err("wrong_fields"));
        assert_eq!(read(&message("[1,0.5,null]")), Err("wrong_fields"));
        assert_eq!(
            read(&message(r#"{"num_waiting_reqs":-1,"kv_cache_usage":0}"#)),
            Err("out_of_range")
        );
    }
}
