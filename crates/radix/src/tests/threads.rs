//! Many threads: what a reader may see while writers are at work.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::*;

const WRITERS: u32 = 4;
const ROUNDS: u64 = 300;
const LENGTH: u64 = 48;

fn holder(worker: u32) -> Holder {
    Holder { worker: WorkerId(worker), rank: 0 }
}

/// All conversations begin alike; the rest of each is its own.
fn chain(conversation: u64, worker: u32) -> Vec<Block> {
    (0..LENGTH)
        .map(|at| {
            let local = if at < 16 { at } else { at + 1000 * (conversation + 1) };
            Block { local, engine: EngineHash(local * 64 + u64::from(worker)) }
        })
        .collect()
}

fn locals(blocks: &[Block]) -> Vec<u64> {
    blocks.iter().map(|block| block.local).collect()
}

/// Worker w stores conversations of number w modulo `WRITERS` and no others, and
/// takes them back in whole or in part, tail first or not.
fn write(index: &Index, worker: u32) {
    let me = holder(worker);
    for round in 0..ROUNDS {
        let conversation = (round % 8) * u64::from(WRITERS) + u64::from(worker);
        let blocks = chain(conversation, worker);
        let (first, second) = blocks.split_at(20);
        index.store(me, Tier::Device, None, 0, first).unwrap();
        index.store(me, Tier::Device, Some(first[19].engine), 0, second).unwrap();
        let mut names: Vec<EngineHash> = blocks.iter().map(|block| block.engine).collect();
        match round % 5 {
            0 => names.truncate(30),
            1 => names.reverse(),
            2 => names.rotate_left(24),
            3 => {
                index.clear(me);
            }
            _ => {
                names.drain(..16);
            }
        }
        index.remove(me, Tier::Device, &names);
    }
    index.remove_worker(me.worker);
}

#[test]
fn no_reader_ever_sees_a_holder_credited_with_blocks_it_never_had() {
    let index = Index::new();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..2)
            .map(|reader| {
                let (index, done) = (&index, &done);
                scope.spawn(move || {
                    let mut seen = 0_u64;
                    for conversation in (reader..).step_by(3) {
                        let conversation = conversation % (8 * u64::from(WRITERS));
                        let owner = (conversation % u64::from(WRITERS)) as u32;
                        let found = index.find_matches(&locals(&chain(conversation, 0)));
                        for found in found {
                            let most = if found.holder == holder(owner) { LENGTH } else { 16 };
                            assert!(u64::from(found.blocks) <= most, "{conversation}: {found:?}");
                            seen += 1;
                        }
                        if done.load(Ordering::Relaxed) {
                            break;
                        }
                    }
                    seen
                })
            })
            .collect();
        let writers: Vec<_> = (0..WRITERS)
            .map(|worker| {
                let index = &index;
                scope.spawn(move || write(index, worker))
            })
            .collect();
        for _ in 0..5 {
            index.audit().unwrap();
        }
        writers.into_iter().for_each(|writer| writer.join().unwrap());
        done.store(true, Ordering::Relaxed);
        readers.into_iter().for_each(|reader| {
            reader.join().unwrap();
        });
    });
    index.audit().unwrap();
    let stats = index.stats();
    assert_eq!((stats.nodes, stats.holder_blocks, stats.holders), (0, 0, 0));
}

#[test]
fn a_holder_written_by_many_at_once_is_consistent() {
    let index = Index::new();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for round in 0..ROUNDS {
                    let blocks = chain(round % 3, 0);
                    index.store(holder(0), Tier::Device, None, round % 2, &blocks).unwrap();
                    match round % 7 {
                        0 => drop(index.remove_worker(holder(0).worker)),
                        1 => drop(index.clear(holder(0))),
                        _ => {
                            let names: Vec<_> = blocks.iter().map(|block| block.engine).collect();
                            index.remove(holder(0), Tier::Device, &names[30..]);
                        }
                    }
                }
            });
        }
    });
    index.audit().unwrap();
    index.remove_worker(holder(0).worker);
    let stats = index.stats();
    assert_eq!((stats.nodes, stats.holder_blocks, stats.holders), (0, 0, 0));
}
