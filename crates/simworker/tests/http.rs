//! What an OpenAI client sees.

mod support;

use futures::StreamExt;
use serde_json::{Value, json};
use support::{cached, chat, chat_body, conversation, fleet, get, options, post, post_with, prose};
use warmpath_simworker::{Fleet, Options, Worker};

async fn one() -> Fleet {
    fleet(options(1)).await
}

fn first(fleet: &Fleet) -> &Worker {
    &fleet.workers()[0]
}

/// The JSON of every event of a stream, and whether [DONE] came last.
async fn stream(worker: &Worker, path: &str, body: &Value) -> (Vec<Value>, bool) {
    let url = format!("http://{}{path}", worker.http);
    let response = reqwest::Client::new().post(url).json(body).send().await.expect("an answer");
    assert_eq!(response.headers()["content-type"], "text/event-stream; charset=utf-8");
    let text = response.text().await.expect("text");
    let mut lines: Vec<&str> = text
        .split_terminator("\n\n")
        .map(|line| line.strip_prefix("data: ").expect("data"))
        .collect();
    let done = lines.pop() == Some("[DONE]");
    (lines.iter().map(|line| serde_json::from_str(line).expect("JSON")).collect(), done)
}

#[tokio::test]
async fn a_chat_is_answered_and_its_repetition_is_cached() {
    let fleet = one().await;
    let worker = first(&fleet);
    let messages = conversation("violins", 60);
    let cold = chat(worker, &messages).await;
    let warm = chat(worker, &messages).await;
    let prompt = cold["usage"]["prompt_tokens"].as_u64().expect("prompt_tokens");
    assert_eq!(cached(&cold), 0);
    assert_eq!(cached(&warm), (prompt - 1) / 16 * 16);
    assert_eq!(cold["choices"], warm["choices"]);
    assert_eq!(cold["choices"][0]["finish_reason"], "length");
    assert_eq!(cold["usage"]["completion_tokens"], 8);
    assert_eq!(cold["usage"]["total_tokens"], prompt + 8);
    assert_eq!(cold["object"], "chat.completion");
    let stats = worker.stats();
    assert_eq!((stats.requests, stats.prompt_tokens), (2, 2 * prompt));
    assert_eq!(stats.cached_tokens, cached(&warm));
}

#[tokio::test]
async fn the_next_turn_finds_the_blocks_of_the_answer() {
    let fleet = one().await;
    let worker = first(&fleet);
    let mut messages = conversation("cellos", 30);
    let body = json!({ "model": "tiny", "messages": messages, "max_tokens": 100,
        "ignore_eos": true, "return_token_ids": true });
    let (_, answer) = post(worker, "/v1/chat/completions", &body).await;
    let known = answer["prompt_token_ids"].as_array().expect("ids").len() + 99;
    let turns = messages.as_array_mut().expect("messages");
    turns.push(answer["choices"][0]["message"].clone());
    turns.push(json!({ "role": "user", "content": "And then?" }));
    let next = chat(worker, &messages).await;
    assert_eq!(cached(&next), known as u64 / 16 * 16);
}

#[tokio::test]
async fn a_stream_brings_the_same_answer_token_by_token_and_its_usage() {
    let fleet = one().await;
    let worker = first(&fleet);
    let messages = conversation("records", 40);
    let whole = chat(worker, &messages).await;
    let mut body = chat_body(&messages);
    body["stream"] = true.into();
    body["stream_options"] = json!({ "include_usage": true });
    let (chunks, done) = stream(worker, "/v1/chat/completions", &body).await;
    assert!(done);
    assert_eq!(chunks[0]["choices"][0]["delta"], json!({ "role": "assistant", "content": "" }));
    assert_eq!(chunks[0]["prompt_token_ids"], whole["prompt_token_ids"]);
    assert_eq!(chunks.len(), 1 + 8 + 1);
    let text: String = chunks[1..9]
        .iter()
        .map(|chunk| chunk["choices"][0]["delta"]["content"].as_str().expect("content"))
        .collect();
    assert_eq!(text, whole["choices"][0]["message"]["content"]);
    assert_eq!(chunks[8]["choices"][0]["finish_reason"], "length");
    assert_eq!(chunks[9]["choices"], json!([]));
    assert_eq!(chunks[9]["usage"]["completion_tokens"], 8);
    assert!(cached(&chunks[9]) > 0);
    assert!(chunks.iter().all(|chunk| chunk["object"] == "chat.completion.chunk"));

    body["stream_options"] = Value::Null;
    let (chunks, done) = stream(worker, "/v1/chat/completions", &body).await;
    assert!(done && chunks.iter().all(|chunk| chunk.get("usage").is_none()));
}

#[tokio::test]
async fn completions_take_text_ids_and_lists_of_both() {
    let fleet = one().await;
    let worker = first(&fleet);
    let text = prose("drums", 40);
    let ask =
        |prompt: Value| json!({ "model": "tiny", "prompt": prompt, "return_token_ids": true });
    let (_, by_text) = post(worker, "/v1/completions", &ask(text.clone().into())).await;
    let ids = &by_text["choices"][0]["prompt_token_ids"];
    let (_, by_ids) = post(worker, "/v1/completions", &ask(ids.clone())).await;
    assert_eq!(by_text["choices"], by_ids["choices"]);
    assert!(cached(&by_ids) > 0);
    let (_, by_list) = post(worker, "/v1/completions", &ask(json!([text, "other"]))).await;
    assert_eq!(by_list["choices"].as_array().map(Vec::len), Some(2));
    assert_eq!(by_list["choices"][0]["text"], by_ids["choices"][0]["text"]);
    let (_, by_lists) = post(worker, "/v1/completions", &ask(json!([ids, [1, 2, 3]]))).await;
    assert_eq!(by_lists["choices"][1]["prompt_token_ids"], json!([1, 2, 3]));

    let mut body = ask("a".into());
    body["stream"] = true.into();
    let (chunks, done) = stream(worker, "/v1/completions", &body).await;
    assert!(done && chunks.iter().all(|chunk| chunk["choices"][0]["text"].is_string()));
}

#[tokio::test]
async fn an_answer_has_the_length_that_was_asked_for() {
    let fleet = one().await;
    let worker = first(&fleet);
    let ask = async |more: Value| {
        let mut body = json!({ "model": "tiny", "messages": conversation("flutes", 5) });
        for (name, value) in more.as_object().expect("an object") {
            body[name] = value.clone();
        }
        let (status, answer) = post(worker, "/v1/chat/completions", &body).await;
        assert_eq!(status, 200, "{answer}");
        let reason = answer["choices"][0]["finish_reason"].as_str().map(str::to_owned);
        (answer["usage"]["completion_tokens"].as_u64().expect("tokens"), reason.expect("reason"))
    };
    assert_eq!(ask(json!({ "ignore_eos": true })).await, (16, "length".into()));
    assert_eq!(ask(json!({ "max_completion_tokens": 3 })).await, (3, "length".into()));
    let (natural, reason) = ask(json!({ "max_tokens": 1000 })).await;
    assert_eq!(reason, "stop");
    assert_eq!(ask(json!({ "max_tokens": 1000 })).await, (natural, reason));
    let (long, _) = ask(json!({ "max_tokens": 1000, "min_tokens": 200 })).await;
    assert_eq!(long, 201);
    assert_eq!(ask(json!({ "n": 3, "ignore_eos": true })).await.0, 48);
}

#[tokio::test]
async fn tokenize_says_what_the_engine_computes() {
    let fleet = one().await;
    let worker = first(&fleet);
    let messages = conversation("harps", 10);
    let answer = chat(worker, &messages).await;
    let (_, tokens) = post(worker, "/tokenize", &json!({ "messages": messages })).await;
    assert_eq!(tokens["tokens"], answer["prompt_token_ids"]);
    assert_eq!(tokens["count"], answer["usage"]["prompt_tokens"]);
    assert_eq!(tokens["max_model_len"], 32768);
    let (_, tokens) =
        post(worker, "/tokenize", &json!({ "model": "tiny", "prompt": "hello" })).await;
    assert_eq!(tokens["count"], tokens["tokens"].as_array().map(Vec::len).expect("tokens"));
}

#[tokio::test]
async fn adapters_are_models_with_blocks_of_their_own() {
    let fleet = fleet(Options { lora: vec!["poet".into()], ..options(1) }).await;
    let worker = first(&fleet);
    let mut body = chat_body(&conversation("odes", 30));
    for expected in [true, false] {
        let (_, answer) = post(worker, "/v1/chat/completions", &body).await;
        assert_eq!(cached(&answer), 0, "{}", body["model"]);
        body["model"] = "poet".into();
        assert_eq!(expected, answer["model"] == "tiny");
    }
    let (_, models) = get(worker, "/v1/models").await;
    let models: Value = serde_json::from_str(&models).expect("JSON");
    assert_eq!(
        (&models["data"][0]["id"], &models["data"][1]["id"]),
        (&json!("tiny"), &json!("poet"))
    );
    assert_eq!(models["data"][1]["parent"], "tiny");
}

#[tokio::test]
async fn bad_requests_are_refused_with_a_reason() {
    let fleet = one().await;
    let worker = first(&fleet);
    let chat = "/v1/chat/completions";
    let good = chat_body(&conversation("x", 1));
    let with = |name: &str, value: Value| {
        let mut body = good.clone();
        body[name] = value;
        body
    };
    let rows = [
        (404, with("model", "nobody".into()), "The model `nobody` does not exist."),
        (400, with("max_tokens", 40_000.into()), "maximum context length is 32768"),
        (400, with("max_tokens", 0.into()), "max_tokens must be at least 1"),
        (400, with("max_tokens", "many".into()), "invalid type"),
        (400, with("n", 0.into()), "n must be 1 to 128"),
        (400, json!([1, 2]), "not understood"),
    ];
    for (expected, body, reason) in rows {
        let (status, answer) = post(worker, chat, &body).await;
        assert_eq!((status, &answer["error"]["code"]), (expected, &json!(expected)), "{answer}");
        let message = answer["error"]["message"].as_str().expect("a message");
        assert!(message.contains(reason), "{message}");
    }
    let (status, answer) = post_with(worker, chat, &good, &[("x-data-parallel-rank", "1")]).await;
    assert_eq!(status, 400);
    assert_eq!(answer["error"]["message"], "data_parallel_rank 1 is out of range [0, 1).");
}

#[tokio::test]
async fn metrics_health_and_version_are_those_of_vllm() {
    let fleet = one().await;
    let worker = first(&fleet);
    let messages = conversation("pianos", 30);
    let cold = chat(worker, &messages).await;
    let warm = chat(worker, &messages).await;
    let tokens = cold["usage"]["prompt_tokens"].as_u64().expect("tokens");
    let (_, page) = get(worker, "/metrics").await;
    let labels = "{engine=\"0\",model_name=\"tiny\"}";
    for line in [
        format!("vllm:num_requests_running{labels} 0.0"),
        format!("vllm:num_requests_waiting{labels} 0.0"),
        format!("vllm:kv_cache_usage_perc{labels} 0.0"),
        format!("vllm:prefix_cache_queries_total{labels} {}.0", 2 * tokens),
        format!("vllm:prefix_cache_hits_total{labels} {}.0", cached(&warm)),
        format!("vllm:prompt_tokens_total{labels} {}.0", 2 * tokens),
        format!("vllm:generation_tokens_total{labels} 16.0"),
        "# TYPE vllm:prefix_cache_hits_total counter".into(),
    ] {
        assert!(page.lines().any(|known| known == line), "{line} is not in\n{page}");
    }
    assert!(page.contains("vllm:cache_config_info{block_size=\"16\","));
    assert!(page.contains("finished_reason=\"length\",model_name=\"tiny\"} 2.0"));
    assert_eq!(get(worker, "/health").await, (200, String::new()));
    assert_eq!(get(worker, "/version").await.1, r#"{"version":"0.32.0"}"#);
}

#[tokio::test]
async fn a_client_that_hangs_up_ends_its_request_and_the_blocks_stay() {
    let fleet = fleet(Options { decode_ms_per_token: 5.0, ..options(1) }).await;
    let worker = first(&fleet);
    let mut body = chat_body(&conversation("stories", 60));
    body["max_tokens"] = 20_000.into();
    body["stream"] = true.into();
    let url = format!("http://{}/v1/chat/completions", worker.http);
    let response = reqwest::Client::new().post(url).json(&body).send().await.expect("an answer");
    let mut stream = response.bytes_stream();
    stream.next().await.expect("a chunk").expect("bytes");
    drop(stream);
    let ended = [
        "finished_reason=\"abort\",model_name=\"tiny\"} 1.0",
        "vllm:num_requests_running{engine=\"0\",model_name=\"tiny\"} 0.0",
    ];
    let mut page = String::new();
    for _ in 0..1000 {
        page = get(worker, "/metrics").await.1;
        if ended.iter().all(|line| page.contains(line)) {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    assert!(ended.iter().all(|line| page.contains(line)), "{page}");
    assert!(cached(&chat(worker, &conversation("stories", 60)).await) > 0);
}

#[tokio::test]
async fn other_endpoints_answer_in_their_own_forms_and_say_what_was_cached() {
    let fleet = one().await;
    let worker = first(&fleet);
    let text = prose("oboes", 60);
    let message = json!([{ "role": "user", "content": text }]);
    for (path, body, cached) in [
        ("/v1/responses", json!({ "input": text }), "/usage/input_tokens_details/cached_tokens"),
        (
            "/v1/messages",
            json!({ "messages": message, "max_tokens": 4 }),
            "/usage/cache_read_input_tokens",
        ),
        ("/v1/embeddings", json!({ "input": text }), "/usage/prompt_tokens_details/cached_tokens"),
        (
            "/v1/score",
            json!({ "text_1": text, "text_2": "x" }),
            "/usage/prompt_tokens_details/cached_tokens",
        ),
        (
            "/inference/v1/generate",
            json!({ "token_ids": (100..200).collect::<Vec<_>>(), "sampling_params": { "max_tokens": 2 } }),
            "/usage/prompt_tokens_details/cached_tokens",
        ),
    ] {
        post(worker, path, &body).await;
        let (status, answer) = post(worker, path, &body).await;
        assert_eq!(status, 200, "{path}: {answer}");
        let cached = answer.pointer(cached).and_then(Value::as_u64);
        assert!(cached.is_some_and(|cached| cached >= 64), "{path}: {answer}");
    }
}
