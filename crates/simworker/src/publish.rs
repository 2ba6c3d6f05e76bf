//! A worker's ZMQ sockets: KV events with replay, and load metrics.
//!
//! Every socket adopts a listener that the fleet has bound before, so a taken
//! port is an error at the start and not a worker that nobody hears.

use std::collections::VecDeque;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use parking_lot::Mutex;
use zeromq::{
    PubSocket, RouterSendHalf, RouterSocket, Socket, SocketRecv, SocketSend, ZmqMessage, ZmqResult,
};

use crate::buffer::Buffer;
use crate::engine::Event;
use crate::wire::Encoder;

/// The number of the message that ends a replay.
const REPLAY_END: [u8; 8] = [0xff; 8];

/// How long one replay may take before its client is given up.
const REPLAY_TIMEOUT: Duration = Duration::from_secs(30);

/// The last batches with their sequence numbers.
pub(crate) type Ring = Arc<Mutex<VecDeque<(u64, Bytes)>>>;

/// How a rank tells its events.
pub(crate) enum Voice {
    /// To whoever subscribes.
    Zmq(Publisher),
    /// To whoever asks.
    Buffer(Buffer),
}

impl Voice {
    /// Tells the events of a step.
    pub(crate) async fn publish(&mut self, events: &[Event]) {
        match self {
            Voice::Zmq(publisher) => publisher.publish(events).await,
            Voice::Buffer(buffer) => buffer.publish(events),
        }
    }
}

/// Publishes the events of one rank.
pub(crate) struct Publisher {
    socket: PubSocket,
    encoder: Encoder,
    topic: Bytes,
    sequence: u64,
    ring: Ring,
    /// Batches that the ring has at most.
    kept: usize,
}

impl Publisher {
    /// Starts at sequence number 0 with an empty ring.
    pub(crate) async fn bind(
        listener: TcpListener,
        encoder: Encoder,
        topic: Bytes,
        ring: Ring,
        kept: usize,
    ) -> ZmqResult<Publisher> {
        let mut socket = PubSocket::new();
        socket.bind_listener(listener).await?;
        Ok(Publisher { socket, encoder, topic, sequence: 0, ring, kept })
    }

    /// Sends the events of a step as one batch, or each as its own; nothing where there are none.
    async fn publish(&mut self, events: &[Event]) {
        let Encoder { layout, block_size, .. } = &self.encoder;
        let told = |event: &&Event| layout.clears || !matches!(event, Event::Cleared);
        let split = |event: &Event| match layout.pages {
            true => event.pages(*block_size),
            false => vec![event.clone()],
        };
        let events: Vec<Event> = events.iter().filter(told).flat_map(split).collect();
        let most = if layout.single { 1 } else { events.len().max(1) };
        for events in events.chunks(most) {
            self.batch(events).await;
        }
    }

    async fn batch(&mut self, events: &[Event]) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let payload = Bytes::from(self.encoder.batch(now.as_secs_f64(), events));
        {
            let mut ring = self.ring.lock();
            ring.push_back((self.sequence, payload.clone()));
            if ring.len() > self.kept {
                ring.pop_front();
            }
        }
        let sequence = Bytes::copy_from_slice(&self.sequence.to_be_bytes());
        self.sequence += 1;
        if let Err(error) = self.socket.send(message([self.topic.clone(), sequence, payload])).await
        {
            tracing::warn!(%error, "a batch of events was not sent; it can be replayed");
        }
    }
}

/// Answers replay requests from the ring, for as long as the worker lives.
///
/// `topic` is there where the layout puts one into its replies.
pub(crate) async fn replay(
    listener: TcpListener,
    ring: Ring,
    topic: Option<Bytes>,
) -> ZmqResult<()> {
    let mut socket = RouterSocket::new();
    socket.bind_listener(listener).await?;
    let (sender, mut receiver) = socket.split();
    loop {
        let frames = receiver.recv().await?.into_vec();
        let [client, delimiter, start] = frames.as_slice() else {
            tracing::warn!(frames = frames.len(), "invalid replay request ignored");
            continue;
        };
        let head = [client.clone(), delimiter.clone()];
        let start = start
            .iter()
            .fold(0_u64, |number, &byte| number.saturating_mul(256).saturating_add(byte.into()));
        let batches: Vec<(u64, Bytes)> =
            ring.lock().iter().filter(|(sequence, _)| *sequence >= start).cloned().collect();
        let answer = answer(sender.clone(), head, topic.clone(), batches);
        tokio::spawn(async move {
            if tokio::time::timeout(REPLAY_TIMEOUT, answer).await.is_err() {
                tracing::warn!("a client did not take its replay in time");
            }
        });
    }
}

/// One replay: the batches, then the end marker. A client that left is no error.
async fn answer(
    mut sender: RouterSendHalf,
    head: [Bytes; 2],
    topic: Option<Bytes>,
    batches: Vec<(u64, Bytes)>,
) {
    let end_topic = topic.as_ref().map(|_| Bytes::new());
    let end = (end_topic, Bytes::from_static(&REPLAY_END), Bytes::new());
    let batches = batches.into_iter().map(|(sequence, payload)| {
        (topic.clone(), Bytes::copy_from_slice(&sequence.to_be_bytes()), payload)
    });
    for (topic, sequence, payload) in batches.chain([end]) {
        let frames = head.iter().cloned().chain(topic).chain([sequence, payload]);
        if sender.send(message(frames)).await.is_err() {
            return;
        }
    }
}

/// Publishes `{"num_waiting_reqs", "kv_cache_usage"}` in one frame without a topic, again and again.
pub(crate) async fn load(
    listener: TcpListener,
    interval: Duration,
    read: impl Fn() -> (usize, f64),
) -> ZmqResult<()> {
    let mut socket = PubSocket::new();
    socket.bind_listener(listener).await?;
    let mut ticks = tokio::time::interval(interval);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let (waiting, usage) = read();
        let frame = serde_json::json!({ "num_waiting_reqs": waiting, "kv_cache_usage": usage });
        socket.send(Bytes::from(frame.to_string()).into()).await?;
    }
}

fn message(frames: impl IntoIterator<Item = Bytes>) -> ZmqMessage {
    let mut frames = frames.into_iter();
    let mut message = ZmqMessage::from(frames.next().unwrap_or_default());
    frames.for_each(|frame| message.push_back(frame));
    message
}
