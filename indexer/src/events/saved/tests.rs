//! The file: what is written is read, and nothing else is.

use warmpath_radix::{Block, EngineHash, Tier, WorkerId};

use super::file::{Writer, read};
use super::*;

const HOLDER: Holder = Holder { worker: WorkerId(3), rank: 0 };

fn entry(worker: &str) -> Entry {
    Entry {
        worker: worker.to_owned(),
        rank: 0,
        seq: 7,
        digest: u64::MAX,
        timestamp: Some(1.5),
        first: None,
        block_size: Some(16),
        groups: vec![(0, 1, false)],
    }
}

fn index() -> Index {
    let index = Index::new();
    let blocks: Vec<Block> =
        (1..=5).map(|local| Block { local, engine: EngineHash(local + 10) }).collect();
    index.store(HOLDER, Tier::Device, None, 0, &blocks).unwrap();
    index
}

fn written(path: &Path) -> Vec<u8> {
    let file = Writer::create(path).unwrap();
    let file = file.add(&entry("a"), &index(), HOLDER).unwrap();
    file.add(&entry("b"), &index(), HOLDER).unwrap().finish().unwrap();
    std::fs::read(path).unwrap()
}

#[test]
fn a_snapshot_gives_back_what_was_written_whoever_the_holder_is_now() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("index");
    written(&path);
    let saved = read(&path).unwrap();
    assert_eq!(saved.iter().map(|one| &one.entry).collect::<Vec<_>>(), [&entry("a"), &entry("b")]);
    let (later, holder) = (Index::new(), Holder { worker: WorkerId(9), rank: 2 });
    // Another may have its name by now.
    std::fs::remove_file(&path).unwrap();
    assert_eq!(saved[1].restore(&later, holder).unwrap(), 5);
    assert_eq!(later.blocks(holder, Tier::Device), 5);
    assert!(!folder.path().join("index.new").exists());
}

#[test]
fn no_file_is_an_empty_start_and_a_foreign_or_cut_one_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("index");
    assert!(read(&path).unwrap().is_empty());
    let bytes = written(&path);
    for foreign in [&b""[..], b"WPI", b"workers:\n- id: a\n", b"WPIX\x02\0\0\0"] {
        std::fs::write(&path, foreign).unwrap();
        assert!(read(&path).is_err(), "{foreign:?}");
    }
    for length in 0..bytes.len() {
        std::fs::write(&path, &bytes[..length]).unwrap();
        assert!(read(&path).is_err(), "{length} of {} bytes", bytes.len());
    }
    let streams = Streams::default();
    streams.read(&path);
    assert!(streams.find("a", 0).is_none());
}

#[test]
fn a_changed_byte_is_noticed_before_anything_is_credited() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("index");
    let bytes = written(&path);
    for at in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[at] ^= 0x10;
        std::fs::write(&path, &changed).unwrap();
        for saved in read(&path).unwrap_or_default() {
            let index = Index::new();
            let right = saved.restore(&index, HOLDER).is_ok();
            let same = saved.entry == entry("a") || saved.entry == entry("b");
            assert!(!right || same, "byte {at}: {:?}", saved.entry);
            assert!(right || index.blocks(HOLDER, Tier::Device) == 0, "byte {at}");
        }
    }
}

#[test]
fn a_time_of_any_digits_does_not_make_a_stream_a_damaged_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("index");
    let mut file = Writer::create(&path).unwrap();
    for number in 0..200_u32 {
        let timestamp = Some(1_795_000_000.0 + f64::from(number) / 7.0);
        let entry = Entry { timestamp, ..entry(&number.to_string()) };
        file = file.add(&entry, &index(), HOLDER).unwrap();
    }
    file.finish().unwrap();
    for saved in read(&path).unwrap() {
        assert_eq!(saved.restore(&Index::new(), HOLDER).unwrap(), 5, "{:?}", saved.entry);
    }
}
