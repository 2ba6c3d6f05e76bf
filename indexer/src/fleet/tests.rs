use serde_json::json;
use warmpath_radix::{Block, EngineHash, Tier};

use super::*;
use crate::book::BookConfig;
use crate::config::ModelConfig;

pub(crate) fn names() -> Arc<Names> {
    let model = |name: &str| ModelConfig {
        name: name.into(),
        path: None,
        aliases: Vec::new(),
        adapters: Vec::new(),
        block_size: Some(16),
    };
    Arc::new(Names::new(vec![model("a"), model("b")]))
}

/// A worker that nothing probes or follows.
pub(crate) fn quiet(id: &str, model: &str, port: u16, ranks: u32) -> WorkerConfig {
    let tree = json!({
        "id": id, "model": model, "endpoint": format!("127.0.0.1:{port}"), "ranks": ranks,
        "health": { "interval_ms": 0 },
    });
    WorkerConfig::from_tree(&tree, &["a", "b"]).unwrap()
}

pub(crate) fn fleet() -> Fleet {
    let stale = Duration::from_secs(10);
    let book = Arc::new(Book::new(BookConfig::default(), stale));
    Fleet::new(Arc::new(Index::new()), names(), book, stale, CancellationToken::new()).unwrap()
}

#[tokio::test]
async fn workers_come_and_go_and_ids_are_not_given_twice() {
    let fleet = fleet();
    let first = fleet.add(quiet("0", "a", 8100, 1)).unwrap();
    fleet.add(quiet("1", "b", 8101, 1)).unwrap();
    let before = fleet.view();
    let blocks = [Block { local: 7, engine: EngineHash(7) }];
    fleet.index.store(first.holder(0), Tier::Device, None, warmpath_blocks::SEED, &blocks).unwrap();

    assert_eq!(fleet.remove("0").await, Some(1), "its block goes with it");
    assert_eq!(fleet.remove("0").await, None);
    let again = fleet.add(quiet("0", "a", 8100, 1)).unwrap();
    assert_ne!(again.id, first.id);
    assert!(fleet.index.find_matches(&[7]).is_empty());

    assert_eq!(before.workers().len(), 2, "a reader's view does not change under it");
    assert_eq!(fleet.view().of_model(0).len(), 1);
    assert_eq!(fleet.view().of_model(1).len(), 1);
}

#[tokio::test]
async fn a_second_worker_of_one_id_or_endpoint_is_refused() {
    let fleet = fleet();
    fleet.add(quiet("0", "a", 8100, 1)).unwrap();
    assert!(matches!(fleet.add(quiet("0", "a", 8101, 1)), Err(AddError::Exists(_))));
    assert!(matches!(fleet.add(quiet("1", "a", 8100, 1)), Err(AddError::Endpoint(..))));
    assert_eq!(fleet.view().workers().len(), 1);
}

#[test]
fn ranks_count_ports_upwards() {
    assert_eq!(rank_endpoint("tcp://127.0.0.1:5557", 2).as_deref(), Some("tcp://127.0.0.1:5559"));
    assert_eq!(rank_endpoint("tcp://[::1]:5557", 0).as_deref(), Some("tcp://[::1]:5557"));
    for wrong in ["127.0.0.1:5557", "tcp://:5557", "tcp://a:b", "ipc:///x", "tcp://a/b:1"] {
        assert_eq!(rank_endpoint(wrong, 0), None, "{wrong}");
    }
    assert_eq!(rank_endpoint("tcp://a:65535", 1), None);
}
