//! What an earlier process saved, before engines that are as they were and others.

use super::*;

/// Follows until the engine's blocks are known, and saves them.
async fn saved(ports: &Ports, blocks: &[u64], path: &std::path::Path) {
    let following = start(to(ports));
    following.until_overlap(blocks).await;
    following.streams.finish(path).await;
    following.stop().await;
}

/// Follows with what was saved.
fn start_again(ports: &Ports, path: &std::path::Path) -> Following {
    let streams = Arc::new(Streams::default());
    streams.read(path);
    start_with(to(ports), streams)
}

#[tokio::test]
async fn blocks_beyond_the_engines_buffer_are_back_after_a_restart() {
    let (ports, folder) = (ports(), tempfile::tempdir().unwrap());
    let path = folder.path().join("index");
    let mut engine = Engine::start(&ports, 1, Layout::WithTopic).await;
    for block in 1..=4 {
        engine.publish((block > 1).then_some(block - 1), block).await;
    }
    saved(&ports, &[1, 2, 3, 4], &path).await;
    // Two more while nobody listens; of the first four the buffer keeps the last.
    drop((engine.next(Some(4), 5), engine.next(Some(5), 6)));
    engine.buffer.lock().drain(..3);
    let following = start_again(&ports, &path);
    following.until_overlap(&[1, 2, 3, 4, 5, 6]).await;
    assert_eq!(following.streams.restored_blocks(), 4);
    engine.publish(Some(6), 7).await;
    following.until_overlap(&[1, 2, 3, 4, 5, 6, 7]).await;
    following.index.audit().unwrap();
    // Taken up once: a copy too many would outlive its removal.
    assert_eq!(following.status.snapshot().restarts, 0);
    following.stop().await;
    engine.stop().await;
}

#[tokio::test]
async fn an_engine_that_began_anew_is_not_credited_with_what_was_saved() {
    let (ports, folder) = (ports(), tempfile::tempdir().unwrap());
    let path = folder.path().join("index");
    let mut engine = Engine::start(&ports, 1, Layout::WithTopic).await;
    engine.publish(None, 1).await;
    engine.publish(Some(1), 2).await;
    saved(&ports, &[1, 2], &path).await;
    engine.stop().await;
    let mut engine = Engine::start(&ports, 2, Layout::WithTopic).await;
    for block in [1, 8, 9] {
        engine.publish(None, block).await;
    }
    let following = start_again(&ports, &path);
    following.until_overlap(&[9]).await;
    assert_eq!((following.overlap(&[1, 2]), following.streams.restored_blocks()), (1, 0));
    following.stop().await;
    engine.stop().await;
}

#[tokio::test]
async fn an_engine_whose_buffer_begins_later_is_not_credited_with_what_was_saved() {
    let (ports, folder) = (ports(), tempfile::tempdir().unwrap());
    let path = folder.path().join("index");
    let mut engine = Engine::start(&ports, 1, Layout::WithTopic).await;
    engine.publish(None, 1).await;
    saved(&ports, &[1], &path).await;
    engine.publish(None, 2).await;
    engine.publish(None, 3).await;
    engine.buffer.lock().drain(..2);
    let following = start_again(&ports, &path);
    following.until_overlap(&[3]).await;
    assert_eq!((following.overlap(&[1]), following.overlap(&[2])), (0, 0));
    following.stop().await;
    engine.stop().await;
}

#[tokio::test]
async fn what_an_absent_engine_has_not_confirmed_is_saved_again() {
    let (ports, folder) = (ports(), tempfile::tempdir().unwrap());
    let path = folder.path().join("index");
    let mut engine = Engine::start(&ports, 1, Layout::WithTopic).await;
    engine.publish(None, 1).await;
    saved(&ports, &[1], &path).await;
    let buffer = engine.buffer.lock().clone();
    engine.stop().await;
    let following = start_again(&ports, &path);
    sleep(Duration::from_millis(50)).await;
    assert_eq!(following.overlap(&[1]), 0, "nobody confirmed it");
    following.streams.finish(&path).await;
    following.stop().await;
    // The same engine after all: only the connection was away.
    let engine = Engine::start(&ports, 1, Layout::WithTopic).await;
    *engine.buffer.lock() = buffer;
    let following = start_again(&ports, &path);
    following.until_overlap(&[1]).await;
    assert_eq!(following.streams.restored_blocks(), 1);
    following.stop().await;
    engine.stop().await;
}
