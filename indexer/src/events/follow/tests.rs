//! A stream over real sockets: an engine that publishes, forgets, dies, returns.

mod saved;

use std::sync::atomic::{AtomicU32, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::task::JoinHandle;
use warmpath_blocks::SEED;
use zeromq::{PubSocket, RouterSocket, Socket, SocketRecv, SocketSend, ZmqMessage};

use super::*;
use crate::events::RankSnapshot;
use crate::events::testing::Item::Map;
use crate::events::testing::{batch_at, capture, local, source, stored};
use crate::recording::{Line, Model, Recording};

type Buffer = Arc<Mutex<Vec<(u64, Bytes)>>>;

/// How the replay socket answers.
#[derive(Clone, Copy, PartialEq)]
enum Layout {
    /// As vLLM does since 0.26.
    WithTopic,
    /// As vLLM did to 0.25, and SGLang does.
    WithoutTopic,
    /// One batch in five is left out, as a ROUTER does with a full queue.
    Lossy,
}

/// The sockets of one life of an engine.
struct Engine {
    publisher: PubSocket,
    buffer: Buffer,
    replay: JoinHandle<()>,
    seq: u64,
    life: u64,
}

struct Ports {
    events: String,
    replay: String,
}

/// Two free ports that stay free while an engine is away: below the range that
/// connections get theirs from, and no two tests begin to look at the same.
fn ports() -> Ports {
    static TAKEN: AtomicU32 = AtomicU32::new(0);
    let endpoint = || {
        for _ in 0..1000 {
            let taken = TAKEN.fetch_add(1, Ordering::Relaxed);
            let port = 20_000 + (std::process::id() * 64 + taken) % 12_000;
            let address = format!("127.0.0.1:{port}");
            if std::net::TcpListener::bind(&address).is_ok() {
                return format!("tcp://{address}");
            }
        }
        panic!("no free port");
    };
    Ports { events: endpoint(), replay: endpoint() }
}

impl Engine {
    async fn start(ports: &Ports, life: u64, layout: Layout) -> Self {
        let mut publisher = PubSocket::new();
        publisher.bind(&ports.events).await.unwrap();
        let mut router = RouterSocket::new();
        router.bind(&ports.replay).await.unwrap();
        let buffer = Buffer::default();
        let replay = tokio::spawn(serve(router, buffer.clone(), layout));
        Self { publisher, buffer, replay, seq: 0, life }
    }

    /// Publishes the next batch: block `block` behind `parent`.
    async fn publish(&mut self, parent: Option<u64>, block: u64) {
        let message = self.next(parent, block);
        self.publisher.send(message).await.unwrap();
    }

    /// Makes the next batch and keeps it, but does not publish it.
    fn next(&mut self, parent: Option<u64>, block: u64) -> ZmqMessage {
        let time = (self.life * 1000 + self.seq) as f64;
        let payload = batch_at(time, 0, vec![Map(stored(parent, &[block]))]);
        let message = self.keep(self.seq, payload.into());
        self.seq += 1;
        message
    }

    fn keep(&self, seq: u64, payload: Bytes) -> ZmqMessage {
        self.buffer.lock().push((seq, payload.clone()));
        let seq = Bytes::copy_from_slice(&seq.to_be_bytes());
        ZmqMessage::try_from(vec![Bytes::from_static(b"kv-events"), seq, payload]).unwrap()
    }

    async fn stop(self) {
        self.replay.abort();
        self.replay.await.unwrap_err();
        self.publisher.close().await;
    }
}

async fn serve(mut router: RouterSocket, buffer: Buffer, layout: Layout) {
    while let Ok(request) = router.recv().await {
        let [peer, _, from] = request.into_vec().try_into().unwrap();
        let from = u64::from_be_bytes(from.as_ref().try_into().unwrap());
        let batches = buffer.lock().clone();
        let head = |rest: Vec<Bytes>| {
            let topic = (layout != Layout::WithoutTopic).then(|| Bytes::from_static(b"t"));
            let frames = [peer.clone(), Bytes::new()].into_iter().chain(topic).chain(rest);
            ZmqMessage::try_from(frames.collect::<Vec<_>>()).unwrap()
        };
        for (sent, (seq, payload)) in batches.into_iter().filter(|b| b.0 >= from).enumerate() {
            if layout != Layout::Lossy || sent % 5 != 4 {
                let seq = Bytes::copy_from_slice(&seq.to_be_bytes());
                router.send(head(vec![seq, payload])).await.unwrap();
            }
        }
        let end = Bytes::from_static(&[0xff; 8]);
        router.send(head(vec![end, Bytes::new()])).await.unwrap();
    }
}

struct Following {
    index: Arc<Index>,
    status: Arc<RankStatus>,
    streams: Arc<Streams>,
    shutdown: CancellationToken,
    task: JoinHandle<()>,
}

fn start(source: Source) -> Following {
    start_with(source, Arc::default())
}

fn start_with(source: Source, streams: Arc<Streams>) -> Following {
    let (index, status) = (Arc::new(Index::new()), Arc::new(RankStatus::new()));
    let shutdown = CancellationToken::new();
    let (followed, stop) = (streams.clone(), shutdown.clone());
    let task = tokio::spawn(follow(source, index.clone(), status.clone(), followed, stop));
    Following { index, status, streams, shutdown, task }
}

impl Following {
    fn overlap(&self, blocks: &[u64]) -> u32 {
        self.index.find_matches(&local(blocks, SEED)).first().map_or(0, |found| found.blocks)
    }

    /// Waits until the stream is as it should be.
    async fn until(&self, what: &str, reached: impl Fn(&RankSnapshot) -> bool) {
        for _ in 0..3000 {
            if reached(&self.status.snapshot()) {
                return;
            }
            sleep(Duration::from_millis(10)).await;
        }
        panic!("never {what}: {:?}", self.status.snapshot());
    }

    async fn until_overlap(&self, blocks: &[u64]) {
        self.until(&format!("{blocks:?}"), |_| self.overlap(blocks) == blocks.len() as u32).await;
    }

    async fn stop(self) -> RankSnapshot {
        self.shutdown.cancel();
        self.task.await.unwrap();
        self.status.snapshot()
    }
}

fn to(ports: &Ports) -> Source {
    Source { endpoint: ports.events.clone(), replay: Some(ports.replay.clone()), ..source() }
}

#[tokio::test]
async fn a_running_engines_state_comes_by_replay_in_either_layout_and_news_live() {
    for layout in [Layout::WithTopic, Layout::WithoutTopic] {
        let ports = ports();
        let mut engine = Engine::start(&ports, 1, layout).await;
        engine.publish(None, 1).await;
        engine.publish(Some(1), 2).await;
        let following = start(to(&ports));
        following.until_overlap(&[1, 2]).await;
        engine.publish(Some(2), 3).await;
        following.until_overlap(&[1, 2, 3]).await;
        let status = following.stop().await;
        assert_eq!((status.lost_batches, status.restarts, status.batches), (0, 0, 3));
        assert!(status.rejected.is_empty() && status.synced && !status.connected);
        engine.stop().await;
    }
}

#[tokio::test]
async fn what_the_publisher_dropped_comes_by_replay() {
    let ports = ports();
    let mut engine = Engine::start(&ports, 1, Layout::WithTopic).await;
    let following = start(to(&ports));
    following.until("synced", |status| status.synced).await;
    for block in 1..=6 {
        let message = engine.next((block > 1).then(|| block - 1), block);
        if block % 3 == 0 {
            engine.publisher.send(message).await.unwrap();
        }
    }
    following.until_overlap(&[1, 2, 3, 4, 5, 6]).await;
    let status = following.stop().await;
    assert_eq!((status.lost_batches, status.restarts, status.batches), (0, 0, 6));
    engine.stop().await;
}

#[tokio::test]
async fn an_answer_with_holes_is_asked_for_again() {
    let ports = ports();
    let mut engine = Engine::start(&ports, 1, Layout::Lossy).await;
    let blocks: Vec<u64> = (1..=30).collect();
    for &block in &blocks {
        engine.next((block > 1).then(|| block - 1), block);
    }
    let following = start(to(&ports));
    following.until_overlap(&blocks[..29]).await;
    let status = following.stop().await;
    assert_eq!((status.lost_batches, status.restarts), (0, 0));
    engine.stop().await;
}

#[tokio::test]
async fn an_engine_that_returns_empty_is_forgotten_before_it_says_anything() {
    let ports = ports();
    let mut engine = Engine::start(&ports, 1, Layout::WithTopic).await;
    engine.publish(None, 1).await;
    let following = start(to(&ports));
    following.until_overlap(&[1]).await;
    engine.stop().await;
    following.until("disconnected", |status| !status.connected).await;
    assert_eq!(following.overlap(&[1]), 1, "a peer that is away may come back as it was");
    let mut engine = Engine::start(&ports, 2, Layout::WithTopic).await;
    following.until("a restart", |status| status.restarts == 1).await;
    assert_eq!(following.overlap(&[1]), 0);
    engine.publish(None, 7).await;
    following.until_overlap(&[7]).await;
    following.stop().await;
    engine.stop().await;
}

#[tokio::test]
async fn an_engine_that_returns_with_other_batches_is_another() {
    let ports = ports();
    let mut engine = Engine::start(&ports, 1, Layout::WithTopic).await;
    engine.publish(None, 1).await;
    let following = start(to(&ports));
    following.until_overlap(&[1]).await;
    engine.stop().await;
    let mut engine = Engine::start(&ports, 2, Layout::WithTopic).await;
    engine.next(None, 7);
    engine.next(Some(7), 8);
    following.until_overlap(&[7, 8]).await;
    assert_eq!(following.overlap(&[1]), 0);
    assert_eq!(following.stop().await.restarts, 1);
    engine.stop().await;
}

#[tokio::test]
async fn a_lost_connection_alone_forgets_nothing() {
    let ports = ports();
    let mut engine = Engine::start(&ports, 1, Layout::WithTopic).await;
    engine.publish(None, 1).await;
    let following = start(to(&ports));
    following.until_overlap(&[1]).await;
    let mut publisher = PubSocket::new();
    std::mem::swap(&mut publisher, &mut engine.publisher);
    publisher.close().await;
    following.until("disconnected", |status| !status.connected).await;
    engine.next(Some(1), 2);
    engine.publisher.bind(&ports.events).await.unwrap();
    following.until_overlap(&[1, 2]).await;
    let status = following.stop().await;
    assert_eq!((status.lost_batches, status.restarts), (0, 0));
    engine.stop().await;
}

#[tokio::test]
async fn without_a_replay_socket_what_is_missing_is_lost_and_counted() {
    let ports = ports();
    let mut engine = Engine::start(&ports, 1, Layout::WithTopic).await;
    let following = start(Source { replay: None, ..to(&ports) });
    following.until("connected", |status| status.connected && status.synced).await;
    // The publisher does not say when it has taken the subscription in.
    for _ in 0..2 {
        engine.next(None, 1);
    }
    for block in 3..500 {
        engine.publish(None, block).await;
        sleep(Duration::from_millis(5)).await;
        if following.overlap(&[block]) == 1 {
            break;
        }
    }
    let status = following.stop().await;
    assert!(status.lost_batches >= 2 && status.gaps == 1 && status.restarts == 0, "{status:?}");
    engine.stop().await;
}

#[tokio::test]
async fn a_replay_socket_that_is_not_there_does_not_stop_live_events() {
    let ports = ports();
    let mut engine = Engine::start(&ports, 1, Layout::WithTopic).await;
    engine.replay.abort();
    let nobody = Some("tcp://127.0.0.1:0".to_owned());
    let following = start(Source { replay: nobody, ..to(&ports) });
    following.until("synced", |status| status.connected && status.synced).await;
    for block in 1..=3 {
        engine.publish(None, block).await;
    }
    following.until("three batches", |status| status.batches == 3).await;
    following.stop().await;
}

#[tokio::test]
async fn an_indexer_can_bind_where_the_engine_connects() {
    let ports = ports();
    let bound = Source { bind: true, ..to(&ports) };
    let following = start(Source { replay: None, ..bound });
    following.until("bound", |status| status.connected).await;
    let mut publisher = PubSocket::new();
    publisher.connect(&ports.events).await.unwrap();
    let mut engine = Engine {
        publisher,
        buffer: Buffer::default(),
        replay: tokio::spawn(async {}),
        seq: 0,
        life: 1,
    };
    for block in 1..500 {
        engine.publish(None, block).await;
        sleep(Duration::from_millis(5)).await;
        if following.overlap(&[block]) == 1 {
            following.stop().await;
            return;
        }
    }
    panic!("nothing arrived: {:?}", following.stop().await);
}

#[tokio::test]
async fn an_endpoint_that_is_none_stops_nothing_else() {
    for endpoint in ["ipc:///tmp/events", "tcp://127.0.0.1", "tcp://host:port", ""] {
        let following = start(Source { endpoint: endpoint.to_owned(), ..source() });
        sleep(Duration::from_millis(1)).await;
        assert!(!following.stop().await.connected);
    }
}

/// A real engine's messages through real sockets: after each request, the overlap
/// that they imply. The engine that begins anew empties its replay buffer.
#[tokio::test]
async fn recordings_over_sockets_leave_what_they_imply() {
    for name in ["default_chat", "eviction", "clear", "restart", "v0.23.0_array"] {
        let recording = Recording::read(&capture(name)).unwrap();
        let ports = ports();
        let mut engine = Engine::start(&ports, 1, Layout::WithTopic).await;
        let following = start(to(&ports));
        following.until("synced", |status| status.synced).await;
        let (mut model, mut sent, mut compared) = (Model::default(), 0, 0);
        for (number, line) in &recording.lines {
            match line {
                Line::Published { frames, .. } => {
                    let (seq, payload) = crate::events::wire::frames(frames).unwrap();
                    if seq == 0 {
                        engine.buffer.lock().clear();
                    }
                    let message = engine.keep(seq, Bytes::copy_from_slice(payload));
                    engine.publisher.send(message).await.unwrap();
                    model.apply(seq, payload);
                    sent += 1;
                    // Two lives at once in one queue are nothing that an engine can do.
                    following.until("all applied", |status| status.batches == sent).await;
                }
                Line::Request(request) => {
                    let salt = request.cache_salt.as_deref();
                    for tokens in &request.prompts {
                        let seed = warmpath_blocks::seed(None, salt);
                        let hashes = warmpath_blocks::local_hashes(tokens, 32, seed);
                        let found = following.index.find_matches(&hashes);
                        let found = found.first().map_or(0, |found| found.blocks);
                        assert_eq!(found, model.overlap(tokens, None, salt), "{name}:{number}");
                        compared += 1;
                    }
                }
                Line::Replayed { .. } => {}
            }
        }
        let status = following.stop().await;
        assert!(status.rejected.is_empty() && status.lost_batches == 0, "{name}: {status:?}");
        assert_eq!(status.restarts, if name == "restart" { 2 } else { 0 });
        assert!(compared >= 5, "{name}");
        engine.stop().await;
    }
}
