//! The fuzzers' seeds and some thousand mutations of them, in everybody's tests.

use std::path::{Path, PathBuf};

use warmpath_fuzz_checks::{CHECKS, Check};

/// Mutations of each seed, unless `WARMPATH_MUTATIONS` says otherwise. Enough to notice
/// what is broken thoroughly; the rare is for the fuzzers.
const MUTATIONS: usize = 60;

/// Numbers that look random, the same in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.0 >> 33) as usize % bound.max(1)
    }

    /// A few of what fuzzers do: other bytes, cuts, repetitions, pieces of another seed.
    fn mutate(&mut self, seed: &[u8], other: &[u8]) -> Vec<u8> {
        let mut data = seed.to_vec();
        for _ in 0..=self.below(4) {
            let at = self.below(data.len() + 1);
            let end = (at + self.below(32)).min(data.len());
            match self.below(6) {
                0 if at < data.len() => data[at] = self.below(256) as u8,
                1 if at < data.len() => data[at] ^= 1 << self.below(8),
                2 => drop(data.drain(at..end)),
                3 => drop(data.splice(at..at, seed[..end.min(seed.len())].to_vec())),
                4 => {
                    let from = self.below(other.len() + 1);
                    let until = (from + self.below(64)).min(other.len());
                    data.splice(at..end, other[from..until].to_vec());
                }
                _ => data.truncate(at.max(1)),
            }
        }
        data
    }
}

/// Prints what was being tried when its check panicked.
struct Shown<'a>(&'a str, &'a [u8]);

impl Drop for Shown<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let path = std::env::temp_dir().join(format!("warmpath-{}-failed", self.0));
            let written = std::fs::write(&path, self.1);
            eprintln!("input of the check {}: {} {written:?}", self.0, path.display());
        }
    }
}

fn seeds(check: Check) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds").join(check.name);
    let entries =
        std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort_unstable();
    paths.into_iter().map(|path| std::fs::read(path).unwrap()).collect()
}

fn survives(name: &str) {
    let check = *CHECKS.iter().find(|check| check.name == name).unwrap();
    let seeds = seeds(check);
    assert!(!seeds.is_empty(), "{name} has no seeds");
    let mutations = std::env::var("WARMPATH_MUTATIONS").ok();
    let mutations = mutations.and_then(|many| many.parse().ok()).unwrap_or(MUTATIONS);
    let mut random = Random(0x9e37_79b9_7f4a_7c15 ^ mutations as u64);
    for seed in &seeds {
        (check.run)(seed);
        for _ in 0..mutations {
            let other = &seeds[random.below(seeds.len())];
            let data = random.mutate(seed, other);
            // Left in a file where it fails.
            let shown = Shown(name, &data);
            (check.run)(&data);
            drop(shown);
        }
    }
}

#[test]
fn bodies_survive_mutation() {
    survives("body");
}

#[test]
fn templates_survive_mutation() {
    survives("template");
}

#[test]
fn tables_survive_mutation() {
    survives("table");
}

#[test]
fn the_index_survives_mutation() {
    survives("index");
}

#[test]
fn snapshots_survive_mutation() {
    survives("snapshot");
}

#[test]
fn event_streams_survive_mutation() {
    survives("events");
}

#[test]
fn answers_with_events_survive_mutation() {
    survives("polled");
}

#[test]
fn messages_survive_mutation() {
    survives("protocol");
}

#[test]
fn every_check_has_seeds() {
    assert!(CHECKS.iter().all(|&check| !seeds(check).is_empty()));
}
