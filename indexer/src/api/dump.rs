//! `GET /v1/dump`: what the index holds, as the events that would bring it about, in
//! the form in which Dynamo's services exchange it.
//!
//! Written as it is read, a holder at a time: an index of gigabytes never becomes one
//! text. What is told of a holder was so at one moment.

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use warmpath_radix::{Chain, Tier};

use super::Api;
use crate::fleet::{Rank, Worker};

/// Bytes that are sent together.
const PIECE: usize = 64 << 10;
/// Pieces that wait for a slow client.
const PIECES: usize = 4;

/// The source is dynamo-kv-router's `RouterEvent`.
#[derive(Serialize)]
struct RouterEvent {
    worker_id: u64,
    storage_tier: &'static str,
    residency_domain: &'static str,
    event: Value,
}

/// Pieces of the answer on their way to the client.
struct Answer {
    pieces: mpsc::Sender<Bytes>,
    buffer: Vec<u8>,
    /// Numbers the events of the whole answer.
    events: u64,
}

/// The client is gone.
struct Gone;

pub(super) async fn dump(State(api): State<Arc<Api>>) -> Response {
    let (pieces, receiver) = mpsc::channel(PIECES);
    tokio::task::spawn_blocking(move || {
        // A client that is gone needs no answer.
        let _ = Answer { pieces, buffer: Vec::new(), events: 0 }.write(&api);
    });
    let next = |mut receiver: mpsc::Receiver<Bytes>| async move {
        let piece = receiver.recv().await?;
        Some((Ok::<_, std::convert::Infallible>(piece), receiver))
    };
    let body = Body::from_stream(futures::stream::unfold(receiver, next));
    ([(CONTENT_TYPE, "application/json")], body).into_response()
}

impl Answer {
    fn write(mut self, api: &Api) -> Result<(), Gone> {
        let view = api.fleet.view();
        self.push(b"{")?;
        let mut first = true;
        for model in 0..api.names.len() {
            for (number, size) in view.block_sizes(model).into_iter().enumerate() {
                // Dynamo has one block size in a group; others go beside it.
                let group = match number {
                    0 => format!("{}:default", api.names.name(model)),
                    _ => format!("{}:block-{size}", api.names.name(model)),
                };
                let comma = if std::mem::take(&mut first) { "" } else { "," };
                self.push(format!("{comma}{}:", json!(group)).as_bytes())?;
                self.push(format!("{{\"block_size\":{size},\"events\":[").as_bytes())?;
                let mut comma = "";
                for worker in view.of_model(model) {
                    for rank in worker.ranks.iter().filter(|rank| worker.block_size(rank) == size) {
                        for chain in api.fleet.index().dump(worker.holder(rank.rank)) {
                            self.event(std::mem::replace(&mut comma, ","), worker, rank, &chain)?;
                        }
                    }
                }
                self.push(b"]}")?;
            }
        }
        self.push(b"}")?;
        self.flush()
    }

    fn event(
        &mut self,
        comma: &str,
        worker: &Worker,
        rank: &Rank,
        chain: &Chain,
    ) -> Result<(), Gone> {
        let blocks: Vec<Value> = chain
            .blocks
            .iter()
            .map(|block| {
                json!({
                    "block_hash": block.engine.0, "tokens_hash": block.local, "mm_extra_info": null,
                })
            })
            .collect();
        let event = RouterEvent {
            // Dynamo's ids are numbers.
            worker_id: worker.name.parse().unwrap_or_else(|_| u64::from(worker.id.0)),
            storage_tier: match chain.tier {
                Tier::Device => "device",
                Tier::Host => "host_pinned",
                Tier::Disk => "disk",
            },
            residency_domain: "worker",
            event: json!({
                "event_id": self.events,
                "data": {"stored": {
                    "parent_hash": chain.parent.map(|parent| parent.0),
                    "start_position": chain.start,
                    "blocks": blocks,
                }},
                "dp_rank": rank.rank,
            }),
        };
        self.events += 1;
        self.push(comma.as_bytes())?;
        let text = serde_json::to_vec(&event).unwrap_or_default();
        self.push(&text)
    }

    fn push(&mut self, bytes: &[u8]) -> Result<(), Gone> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() < PIECE { Ok(()) } else { self.flush() }
    }

    fn flush(&mut self) -> Result<(), Gone> {
        let piece = std::mem::take(&mut self.buffer);
        self.pieces.blocking_send(piece.into()).map_err(|_| Gone)
    }
}
