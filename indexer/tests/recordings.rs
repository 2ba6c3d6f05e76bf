//! Every recording of a real engine, through the event path: after each request
//! the index must say what the recorded events imply, with nothing lost.

use std::path::PathBuf;

use warmpath_indexer::recording::{Report, replay_files};

fn captures() -> Vec<PathBuf> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/captures");
    let files = std::fs::read_dir(folder).expect("tests/captures is part of the repository");
    let mut files: Vec<PathBuf> = files
        .map(|file| file.expect("a directory entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "jsonl"))
        .collect();
    files.sort();
    files
}

fn replay(name: &str) -> Report {
    let file = captures().into_iter().find(|path| path.ends_with(format!("{name}.jsonl")));
    replay_files(&[file.expect("the recording")], None).expect("a readable recording")
}

#[test]
fn every_overlap_is_what_the_recorded_events_imply() {
    let report = replay_files(&captures(), None).expect("readable recordings");
    assert_eq!(report.files.len(), 9);
    assert!(report.is_clean(), "{report}");
    let overlaps = || report.files.iter().flat_map(|file| &file.requests);
    let found = overlaps().filter(|request| request.overlaps.iter().any(|o| o.blocks > 0));
    assert!(found.count() > 60, "too few requests overlap to compare anything:\n{report}");
    for file in &report.files {
        for (name, stream) in &file.streams {
            assert_eq!(stream.block_size, Some(32), "{}, {name}", file.path.display());
            assert!(stream.ignored.is_empty(), "{}, {name}: {stream:?}", file.path.display());
        }
    }
}

#[test]
fn an_engine_that_begins_anew_loses_what_it_had() {
    let report = replay("restart");
    let (_, stream) = &report.files[0].streams[0];
    assert_eq!(stream.restarts, 2, "{report}");
}

#[test]
fn a_stream_joined_late_is_filled_from_the_replay_socket() {
    let report = replay("replay");
    let (_, stream) = &report.files[0].streams[0];
    assert_eq!((stream.batches, stream.lost_batches), (23, 0), "{report}");
}

#[test]
fn a_wrong_declared_block_size_rejects_every_store_and_is_not_clean() {
    let files = captures();
    let report = replay_files(&files[..1], Some(16)).expect("a readable recording");
    let (_, stream) = &report.files[0].streams[0];
    assert!(!report.is_clean());
    assert_eq!(stream.stored_blocks, 0);
    assert!(stream.rejected["block_size"] > 0, "{report}");
}

#[test]
fn a_file_that_is_no_recording_is_an_error_that_names_the_line() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), "{\"k\":\"note\"}\nnot json\n").expect("written");
    let error = replay_files(&[file.path().to_owned()], None).expect_err("no recording");
    assert!(error.to_string().contains("line 2"), "{error}");
}
