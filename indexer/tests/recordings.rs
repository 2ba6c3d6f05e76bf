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
        for stream in &file.streams {
            let status = &stream.status;
            assert_eq!(status.block_size, Some(32), "{}: {stream:?}", file.path.display());
            assert!(status.ignored.is_empty(), "{}: {stream:?}", file.path.display());
        }
    }
}

#[test]
fn an_engine_that_begins_anew_loses_what_it_had() {
    let report = replay("restart");
    let status = &report.files[0].streams[0].status;
    assert_eq!(status.restarts, 2, "{report}");
}

#[test]
fn a_stream_joined_late_is_filled_from_the_replay_socket() {
    let report = replay("replay");
    let status = &report.files[0].streams[0].status;
    assert_eq!((status.batches, status.lost_batches), (23, 0), "{report}");
}

#[test]
fn what_came_before_a_recording_is_not_lost() {
    let file = captures().into_iter().find(|path| path.ends_with("replay.jsonl"));
    let text = std::fs::read_to_string(file.expect("the recording")).expect("readable");
    let live: Vec<&str> = text.lines().filter(|line| !line.contains("replay_rep")).collect();
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), live.join("\n")).expect("written");
    let report = replay_files(&[file.path().to_owned()], None).expect("a readable recording");
    let stream = &report.files[0].streams[0];
    assert_eq!((stream.before, stream.status.batches), (20, 3));
    assert!(report.is_clean(), "{report}");
}

#[test]
fn a_wrong_declared_block_size_rejects_every_store_and_is_not_clean() {
    let files = captures();
    let report = replay_files(&files[..1], Some(16)).expect("a readable recording");
    let status = &report.files[0].streams[0].status;
    assert!(!report.is_clean());
    assert_eq!(status.stored_blocks, 0);
    assert!(status.rejected["block_size"] > 0, "{report}");
}

#[test]
fn a_file_that_is_no_recording_is_an_error_that_names_the_line() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), "{\"k\":\"note\"}\nnot json\n").expect("written");
    let error = replay_files(&[file.path().to_owned()], None).expect_err("no recording");
    assert!(error.to_string().contains("line 2"), "{error}");
}
