//! The manifest, the tables, and texts that are tokenized here.

mod common;

use std::path::PathBuf;
use std::process::Command;

use axum::http::StatusCode;
use common::{Engine, Indexer, quiet, tokens};
use serde_json::{Value, json};
use warmpath_indexer::cli::Engine as With;

fn tiny() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/models/tiny")
}

fn config(worker: Value) -> Value {
    json!({
        "models": [{ "name": "m", "path": tiny(), "adapters": ["m-lora"], "block_size": 16 }],
        "workers": [worker],
    })
}

async fn compiled(indexer: &Indexer) -> Value {
    indexer.until("/v1/manifest", |manifest| manifest["models"][0]["table"].is_object()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_manifest_changes_its_tag_exactly_when_it_changes() {
    let indexer = Indexer::start(config(quiet("0", 8100))).await;
    let manifest = compiled(&indexer).await;
    let model = &manifest["models"][0];
    assert_eq!((&model["name"], &model["block_sizes"]), (&json!("m"), &json!([16])));
    assert_eq!(model["unavailable"], Value::Null);

    let get = |tag: String| {
        indexer.client.get(indexer.url("/v1/manifest")).header("if-none-match", tag).send()
    };
    let revision = manifest["revision"].as_str().unwrap();
    let same = get(format!("\"{revision}\"")).await.unwrap();
    assert_eq!(same.status(), StatusCode::NOT_MODIFIED);
    assert_eq!(same.headers()["etag"], format!("\"{revision}\""));
    assert_eq!(get("\"other\"".into()).await.unwrap().status(), StatusCode::OK);
    assert_eq!(indexer.metric("warmpath_manifest_models{table=\"yes\"}").await, 1.0);
    assert_eq!(indexer.admin("/readyz").await.0, StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread")]
async fn spec_and_table_are_what_their_names_say_whole_and_in_parts() {
    let indexer = Indexer::start(config(quiet("0", 8100))).await;
    let manifest = compiled(&indexer).await;
    for kind in ["spec", "table"] {
        let resource = &manifest["models"][0][kind];
        let path = format!("/v1/tables/{}", resource["sha256"].as_str().unwrap());
        let get = || indexer.client.get(indexer.url(&path));
        let whole = get().send().await.unwrap();
        assert_eq!(whole.headers()["accept-ranges"], "bytes");
        let whole = whole.bytes().await.unwrap();
        assert_eq!(whole.len() as u64, resource["bytes"].as_u64().unwrap());
        let named: String = <sha2::Sha256 as sha2::Digest>::digest(&whole)
            .iter()
            .map(|b| format!("{b:02x}"))
            .collect();
        assert_eq!(named, resource["sha256"].as_str().unwrap());

        let part = get().header("range", "bytes=10-19").send().await.unwrap();
        assert_eq!(part.status(), StatusCode::PARTIAL_CONTENT);
        assert_eq!(part.headers()["content-range"], format!("bytes 10-19/{}", whole.len()));
        assert_eq!(part.bytes().await.unwrap(), whole.slice(10..20));
        let beyond = format!("bytes={}-", whole.len());
        let beyond = get().header("range", beyond).send().await.unwrap();
        assert_eq!(beyond.status(), StatusCode::RANGE_NOT_SATISFIABLE);
    }
    let (status, body) = indexer.get("/v1/tables/0000").await;
    assert_eq!((status.as_u16(), &body["error"]["code"]), (404, &json!("not_found")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clients_own_body_is_tokenized_and_routed() {
    let indexer = Indexer::start(config(quiet("0", 8100))).await;
    compiled(&indexer).await;
    let chat = json!({"model": "m", "messages": [{"role": "user", "content": "Hello there."}]});
    let post = |path: &str, body: &Value| {
        let request = indexer.client.post(indexer.url("/v1/route/text")).json(body);
        request.header("x-request-id", "text-1").header("x-warmpath-path", path).send()
    };
    let answer = post("/v1/chat/completions", &chat).await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(answer.json::<Value>().await.unwrap()["worker"], "0");
    let (_, record) = indexer.get("/v1/decisions/text-1").await;
    assert!(record["tokens"].as_u64().unwrap() > 3, "{record}");
    assert!(record["token_digest"].is_u64());

    let (status, _) = indexer.post("/v1/route/text", &chat).await;
    assert_eq!(status, StatusCode::OK, "the shape tells the endpoint");
    let ids = json!({"model": "m", "prompt": tokens(40)});
    let (_, decision) = indexer.post("/v1/route/text?path=/v1/completions", &ids).await;
    assert_eq!(decision["total_blocks"], 2);
    assert_eq!(indexer.metric("warmpath_tokenized_texts_total{model=\"m\"}").await, 3.0);

    let wrong = post("/v1/files", &chat).await.unwrap();
    assert_eq!(wrong.status(), StatusCode::BAD_REQUEST);
    let image = json!({"model": "m", "messages": [{"role": "user", "content":
        [{"type": "image_url", "image_url": {"url": "data:x"}}]}]});
    let (status, body) = indexer.post("/v1/route/text", &image).await;
    assert_eq!((status.as_u16(), &body["error"]["code"]), (422, &json!("not_exact")), "{body}");
    let (status, _) = indexer.post("/v1/route/text", &json!("text")).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
}

#[tokio::test(flavor = "multi_thread")]
async fn texts_find_the_prefix_that_their_ids_have() {
    let mut engine = Engine::start().await;
    let indexer = Indexer::start(config(engine.worker("0"))).await;
    compiled(&indexer).await;
    engine.store_until_held(&indexer, 16, 2).await;
    let ids = |model: &str, salt: Option<&str>| json!({"model": model, "prompt": tokens(40), "cache_salt": salt});
    for (body, blocks) in [(ids("m", None), 2), (ids("m-lora", None), 0), (ids("m", Some("s")), 0)]
    {
        let (_, decision) = indexer.post("/v1/route/text", &body).await;
        assert_eq!(decision["overlap_blocks"], blocks, "{body}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_whose_folder_has_nothing_in_it_is_routed_by_load() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = config(quiet("0", 8100));
    config["models"][0]["path"] = json!(folder.path());
    let indexer = Indexer::start(config).await;
    let refused = |manifest: &Value| {
        let why = manifest["models"][0]["unavailable"].as_str().unwrap();
        why != "still compiling"
    };
    let manifest = indexer.until("/v1/manifest", refused).await;
    assert_eq!(manifest["models"][0]["table"], Value::Null);
    assert_eq!(indexer.admin("/readyz").await.0, StatusCode::OK);
    let (status, _) = indexer.post("/v1/route", &json!({"model": "m", "tokens": 3})).await;
    assert_eq!(status, StatusCode::OK);
    let (status, body) =
        indexer.post("/v1/route/text", &json!({"model": "m", "prompt": [1]})).await;
    assert_eq!((status.as_u16(), &body["error"]["code"]), (422, &json!("not_exact")));
}

#[test]
fn tokens_answers_every_line_alike_with_either_engine() {
    let input = "{\"text\":\"Hello there.\"}\n\n\
        {\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"Hi\"}]}\n\
        {\"model\":\"m\",\"prompt\":[[1,2],[3]]}\nnonsense\n{\"model\":\"m\"}\n";
    let run = |with| {
        let mut output = Vec::new();
        warmpath_indexer::tokens::run(&tiny(), with, input.as_bytes(), &mut output).unwrap();
        String::from_utf8(output).unwrap()
    };
    let output = run(With::Library);
    let lines: Vec<Value> =
        output.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 5);
    assert!(lines[1]["ids"].as_array().unwrap().len() > lines[0]["ids"].as_array().unwrap().len());
    assert_eq!(lines[2], json!({"ids": [1, 2], "prompts": [[1, 2], [3]]}));
    assert!(lines[3]["error"].as_str().unwrap().contains("not JSON"));
    assert!(lines[4]["error"].is_string());
    assert_eq!(run(With::Table), output);
}

#[test]
fn the_binary_refuses_a_bad_configuration_with_every_error() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("warmpath.yaml");
    std::fs::write(&file, "lisen: x\nadmin: nowhere\nworkers: [{id: a}]\n").unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_warmpath-indexer"))
        .arg("--config")
        .arg(&file)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    for expected in [
        "lisen: unknown field",
        "admin: expected an address",
        "workers[0].endpoint: is required",
        "workers[0].model: is required",
    ] {
        assert!(said.contains(expected), "missing {expected:?} in\n{said}");
    }
}
