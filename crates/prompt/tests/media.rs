//! Bodies with images, against what vLLM made of them with a model that sees.
//!
//! `prompts/make_media.py` recorded it, processor and all. What is hashed is the
//! engine's prompt up to the first image, token for token, and says that it was cut.
#![cfg(feature = "library")]

use std::path::Path;
use warmpath_blocks as blocks;
use warmpath_prompt::{Cache, Endpoint, Model, ModelFolder, Progress, Want, parse};

#[derive(serde::Deserialize)]
struct Case {
    body: String,
    ids: Option<Vec<Vec<u32>>>,
    /// Where the engine's first image begins.
    media: Option<usize>,
}

fn vision() -> Model {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let copy = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(here.join("tests/prompts/vision")).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, copy.path().join(path.file_name().unwrap())).unwrap();
    }
    let tokenizer = here.join("../../tests/models/tiny/tokenizer.json");
    std::fs::copy(tokenizer, copy.path().join("tokenizer.json")).unwrap();
    let folder = ModelFolder::load(copy.path()).unwrap();
    let encoder = folder.encoder();
    Model::new(folder.spec, Box::new(encoder)).unwrap()
}

#[test]
fn prompts_are_the_engines_up_to_the_first_image() {
    let model = vision();
    let recorded = include_str!("prompts/media.jsonl");
    let mut cut = 0;
    let mut cache = Cache::new(1 << 20);
    for line in recorded.lines() {
        let case: Case = serde_json::from_str(line).unwrap();
        let Some(ids) = &case.ids else { continue };
        let request = parse(Endpoint::Chat, case.body.as_bytes()).unwrap();
        let found = model.tokenize(&request, 0).unwrap();
        let Some(media) = case.media else {
            assert_eq!((found.cut, &found.ids), (None, ids), "{}", case.body);
            continue;
        };
        cut += 1;
        assert_eq!(found.cut, Some("media"));
        let kept = found.ids[0].len();
        assert_eq!(found.ids[0][..], ids[0][..kept], "{}", case.body);
        let want = Want { block_sizes: &[4], seed: blocks::SEED, max_tokens: None, digest: true };
        let mut job = model.begin(request, 0, want, &mut cache).unwrap();
        let hashed = loop {
            if let Progress::Done(hashed) = job.advance(&model, &mut cache, 16).unwrap() {
                break hashed;
            }
        };
        assert_eq!((hashed.tokens, hashed.cut), (kept as u64, Some("media")), "{}", case.body);
        assert_eq!(hashed.digest, Some(blocks::token_digest(&ids[0][..kept])));
        assert_eq!(hashed.hashes[0].1.len(), kept / 4);
        // The token that opens an image stands before its first placeholder.
        let forged = case.body.contains("forged");
        assert!(kept + 1 == media || (forged && kept < media), "{kept} of {media}: {}", case.body);
    }
    assert!(cut >= 8, "only {cut} bodies have images");
}

#[test]
fn a_model_that_does_not_see_refuses_by_name() {
    let tiny = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/models/tiny");
    let folder = ModelFolder::load(&tiny).unwrap();
    let encoder = folder.encoder();
    let model = Model::new(folder.spec, Box::new(encoder)).unwrap();
    for part in [
        r#"{"type":"image_url","image_url":{"url":"x"}}"#,
        r#"{"type":"input_audio","input_audio":{"data":"x"}}"#,
        r#"{"type":"video_url","video_url":{"url":"x"},"uuid":"u"}"#,
        r#"{"image_url":"x"}"#,
    ] {
        let body =
            format!(r#"{{"model":"m","messages":[{{"role":"user","content":["a",{part}]}}]}}"#);
        let request = parse(Endpoint::Chat, body.as_bytes()).unwrap();
        assert_eq!(model.tokenize(&request, 0).unwrap_err().name(), "media", "{part}");
    }
    let image =
        r#"{"type":"image","source":{"type":"base64","media_type":"image/png","data":"x"}}"#;
    let body = format!(r#"{{"model":"m","messages":[{{"role":"user","content":[{image}]}}]}}"#);
    let request = parse(Endpoint::Messages, body.as_bytes()).unwrap();
    assert_eq!(model.tokenize(&request, 0).unwrap_err().name(), "media");
}
