use super::*;
use crate::parse;

fn name(endpoint: Endpoint, body: &str) -> &'static str {
    match parse(endpoint, body.as_bytes()) {
        Ok(_) => "ok",
        Err(refusal) => refusal.name(),
    }
}

/// A chat body with these further fields.
fn chat(fields: &str) -> &'static str {
    let body = format!(r#"{{"model":"m","messages":[{{"role":"user","content":"x"}}]{fields}}}"#);
    name(Endpoint::Chat, &body)
}

/// A chat body with this one message.
fn message(message: &str) -> &'static str {
    name(Endpoint::Chat, &format!(r#"{{"model":"m","messages":[{message}]}}"#))
}

/// A user's message of this one part.
fn part(part: &str) -> &'static str {
    message(&format!(r#"{{"role":"user","content":[{part}]}}"#))
}

fn completion(fields: &str) -> &'static str {
    name(Endpoint::Completions, &format!(r#"{{"model":"m",{fields}}}"#))
}

#[test]
fn endpoints_are_known_behind_any_prefix_and_query() {
    for (path, endpoint) in [
        ("/v1/chat/completions", Some(Endpoint::Chat)),
        ("/tenant/a/v1/chat/completions?x=/v1/completions", Some(Endpoint::Chat)),
        ("/v1/completions", Some(Endpoint::Completions)),
        ("/v1/responses", Some(Endpoint::Responses)),
        ("/v1/messages?beta=true", Some(Endpoint::Messages)),
        ("/v1/messages/count_tokens", None),
        ("/v1/responses/resp_1/cancel", None),
        ("/v1/embeddings", Some(Endpoint::Embeddings)),
        ("/pooling", Some(Endpoint::Pooling)),
        ("/classify", Some(Endpoint::Classify)),
        ("/v1/score", Some(Endpoint::Score)),
        ("/v2/rerank", Some(Endpoint::Rerank)),
        ("/inference/v1/generate", Some(Endpoint::Generate)),
        ("/v1/models", None),
        ("/v1/chat/completions/batch", None),
        ("", None),
    ] {
        assert_eq!(Endpoint::of_path(path), endpoint, "{path}");
    }
}

#[test]
fn bodies_that_are_no_json_object_are_refused_by_name() {
    for (body, refusal) in [
        ("", "not_json"),
        ("[]", "not_json"),
        ("{\"model\":\"m\"", "not_json"),
        ("{\"model\":NaN}", "json_value"),
        (r#"{"model":"\ud800"}"#, "json_value"),
        ("{}", "no_model"),
        (r#"{"model":null}"#, "no_model"),
        (r#"{"model":5}"#, "no_model"),
        (r#"{"model":"m"}"#, "invalid"),
    ] {
        assert_eq!(name(Endpoint::Chat, body), refusal, "{body}");
    }
    assert_eq!(parse(Endpoint::Chat, b"\xff").err(), Some(Refusal::NotJson));
    let deep = format!(r#"{{"model":"m","x":{}1{}}}"#, "[".repeat(900), "]".repeat(900));
    assert_eq!(name(Endpoint::Chat, &deep), "json_depth");
}

#[test]
fn the_salt_is_read_for_both_endpoints() {
    for (endpoint, fields) in [
        (Endpoint::Chat, r#""messages":[{"role":"user","content":"x"}]"#),
        (Endpoint::Completions, r#""prompt":"x""#),
    ] {
        let body = format!(r#"{{"model":"m","cache_salt":"pepper",{fields}}}"#);
        let request = parse(endpoint, body.as_bytes()).unwrap();
        assert_eq!(request.cache_salt.as_deref(), Some("pepper"));
        assert_eq!(request.model, "m");
    }
    assert_eq!(chat(r#","cache_salt":null"#), "ok");
    assert_eq!(chat(r#","cache_salt":"""#), "invalid");
    assert_eq!(chat(r#","cache_salt":1"#), "invalid");
}

#[test]
fn media_is_read_and_files_and_embeddings_are_refused_by_name() {
    for kind in MEDIA {
        assert_eq!(part(&format!(r#"{{"type":"{kind}","{kind}":{{"url":"x"}}}}"#)), "ok");
    }
    assert_eq!(part(r#"{"image_url":"x"}"#), "ok");
    assert_eq!(part(r#"{"type":"file","file":{}}"#), "media");
    assert_eq!(part(r#"{"type":"prompt_embeds","data":"x"}"#), "prompt_embeds");
    assert_eq!(part(r#"{"prompt_embeds":"x"}"#), "prompt_embeds");
    assert_eq!(completion(r#""prompt":"x","prompt_embeds":"AAA""#), "prompt_embeds");
    assert_eq!(completion(r#""prompt":"x","prompt_embeds":[]"#), "ok");
}

const MEDIA: [&str; 8] = [
    "image_url",
    "input_image",
    "image_pil",
    "image_embeds",
    "audio_url",
    "input_audio",
    "video_url",
    "video_embeds",
];

#[test]
fn parts_of_unknown_kinds_are_refused() {
    for bad in [
        r#"{"type":"text"}"#,
        r#"{"type":"text","text":null}"#,
        r#"{"type":"text","text":5}"#,
        r#"{"type":"text","text":"a","uuid":"u"}"#,
        r#"{"text":"a"}"#,
        r#"{"type":"hologram","text":"a"}"#,
        r#"{"type":5}"#,
        "5",
        "null",
        "[]",
    ] {
        assert_eq!(part(bad), "invalid", "{bad}");
    }
    for good in [
        r#""plain""#,
        r#"{"type":"input_text","text":""}"#,
        r#"{"type":"thinking","thinking":"a"}"#,
        r#"{"type":"tool_reference","name":"f"}"#,
    ] {
        assert_eq!(part(good), "ok", "{good}");
    }
}

#[test]
fn messages_of_the_wrong_form_are_refused() {
    for bad in [
        r#""text""#,
        r#"{"content":"x"}"#,
        r#"{"role":5,"content":"x"}"#,
        r#"{"role":"user","content":5}"#,
        r#"{"role":"assistant","tool_calls":"x"}"#,
        r#"{"role":"assistant","tool_calls":[{}]}"#,
        r#"{"role":"assistant","tool_calls":[{"id":"1","type":"function","function":{"name":"f"}}]}"#,
        r#"{"role":"assistant","tool_calls":[{"id":"1","type":"custom","function":{"name":"f","arguments":"{}"}}]}"#,
        r#"{"role":"assistant","tool_calls":[{"id":"1","type":"function","function":{"name":"f","arguments":{}}}]}"#,
    ] {
        assert_eq!(message(bad), "invalid", "{bad}");
    }
    assert_eq!(name(Endpoint::Chat, r#"{"model":"m","messages":[]}"#), "invalid");
    assert_eq!(name(Endpoint::Chat, r#"{"model":"m","messages":"x"}"#), "invalid");
    let nan = r#"{"role":"assistant","tool_calls":[{"id":"1","type":"function",
        "function":{"name":"f","arguments":"{\"a\":NaN}"}}]}"#;
    assert_eq!(message(nan), "json_value");
    assert_eq!(
        message(r#"{"role":"developer","content":"x","tools":[{"type":"function"}]}"#),
        "unsupported"
    );
}

#[test]
fn fields_that_change_the_prompt_are_refused_unless_they_are_reproduced() {
    for (fields, refusal) in [
        (r#","chat_template":"{{ x }}""#, "request_template"),
        (r#","chat_template_kwargs":{"chat_template":"x"}"#, "request_template"),
        (r#","chat_template_kwargs":{"chat_template":null}"#, "ok"),
        (r#","chat_template_kwargs":{"messages":[]}"#, "unsupported"),
        (r#","chat_template_kwargs":{"tokenize":true}"#, "unsupported"),
        (r#","chat_template_kwargs":{"range":1}"#, "unsupported"),
        (r#","chat_template_kwargs":[]"#, "invalid"),
        (r#","reasoning_effort":"enormous""#, "invalid"),
        (r#","continue_final_message":true"#, "invalid"),
        (r#","continue_final_message":true,"add_generation_prompt":false"#, "ok"),
        (r#","add_generation_prompt":null"#, "invalid"),
        (r#","add_generation_prompt":"off""#, "ok"),
        (r#","documents":[5]"#, "invalid"),
        (r#","documents":[{"title":"t"}]"#, "ok"),
        (r#","tools":[]"#, "invalid"),
        (r#","tools":null"#, "ok"),
        (r#","tools":[{"type":"function"}]"#, "invalid"),
        (r#","tools":[{"type":"web_search","function":{"name":"f"}}]"#, "invalid"),
        (r#","tools":[{"function":{"name":"f","parameters":[]}}]"#, "invalid"),
        (r#","tools":[{"function":{"name":"f"}}]"#, "ok"),
        (r#","truncate_prompt_tokens":-1"#, "unsupported"),
        (r#","truncate_prompt_tokens":0"#, "invalid"),
        (r#","truncate_prompt_tokens":"5""#, "invalid"),
        (r#","truncation_side":"middle""#, "invalid"),
        (r#","add_special_tokens":"maybe""#, "invalid"),
        (r#","kv_transfer_params":{"prompt_token_ids":[]}"#, "invalid"),
        (r#","kv_transfer_params":{"prompt_token_ids":[1]}"#, "ok"),
        (r#","temperature":"hot","n":2,"user":{}"#, "ok"),
    ] {
        assert_eq!(chat(fields), refusal, "{fields}");
    }
}

#[test]
fn prompts_come_in_four_forms() {
    let prompts = |prompt: &str| {
        let body = format!(r#"{{"model":"m","prompt":{prompt}}}"#);
        match parse(Endpoint::Completions, body.as_bytes()).unwrap().prompt {
            Asked::Completions(completions) => completions.prompts,
            other => panic!("{other:?}"),
        }
    };
    let text = |text: &str| Prompt::Text(text.into());
    assert_eq!(prompts(r#""a""#), [text("a")]);
    assert_eq!(prompts(r#"["a","b"]"#), [text("a"), text("b")]);
    assert_eq!(prompts("[1,2]"), [Prompt::Ids(vec![1, 2])]);
    assert_eq!(prompts("[[1],[2,3]]"), [Prompt::Ids(vec![1]), Prompt::Ids(vec![2, 3])]);
    for bad in [
        "null",
        "5",
        "[]",
        "{}",
        "[1,\"a\"]",
        "[\"a\",1]",
        "[[1],2]",
        "[-1]",
        "[1.5]",
        "[4294967296]",
        "[true]",
        "[[\"a\"]]",
        "[null]",
    ] {
        assert_eq!(completion(&format!("\"prompt\":{bad}")), "invalid", "{bad}");
    }
    assert_eq!(completion(r#""prompt":"a","suffix":"b""#), "unsupported");
    assert_eq!(completion(r#""prompt":"a","suffix":null"#), "ok");
}

#[test]
fn refusals_hold_no_prompt_text() {
    for body in [
        r#"{"model":"m","messages":[{"role":"user","content":[{"type":"SECRET"}]}]}"#,
        r#"{"model":"m","messages":[{"role":"SECRET"}],"chat_template":"SECRET"}"#,
        r#"{"model":"m","messages":[],"chat_template_kwargs":{"tools":"SECRET"}}"#,
    ] {
        let refusal = parse(Endpoint::Chat, body.as_bytes()).unwrap_err();
        assert!(!format!("{refusal} {refusal:?}").contains("SECRET"), "{body}");
    }
}

#[test]
fn conversations_without_end_are_refused() {
    let many = vec![r#"{"role":"user","content":""}"#; 8193].join(",");
    let body = format!(r#"{{"model":"m","messages":[{many}]}}"#);
    assert_eq!(name(Endpoint::Chat, &body), "template_limit");
}

#[test]
fn other_endpoints_refuse_by_name_what_can_not_be_known() {
    for (endpoint, body, refusal) in [
        (Endpoint::Responses, r#""input":"x","previous_response_id":"r""#, "previous_response"),
        (Endpoint::Responses, r#""input":"x","truncation":"auto""#, "unsupported"),
        (Endpoint::Responses, r#""input":[{"type":"item_reference","id":"i"}]"#, "unsupported"),
        (Endpoint::Responses, r#""input":5"#, "invalid"),
        (Endpoint::Messages, r#""messages":[{"role":"user","content":[{"type":"x"}]}]"#, "invalid"),
        (Endpoint::Messages, r#""messages":[{"role":"tool","content":"x"}]"#, "invalid"),
        (Endpoint::Embeddings, r#""input":"x","padding":"max_length""#, "unsupported"),
        (Endpoint::Embeddings, r#""input":[[{"role":"user","content":"x"}]]"#, "unsupported"),
        (Endpoint::Embeddings, r#""input":"x","messages":[]"#, "unsupported"),
        (Endpoint::Score, r#""text_1":"x""#, "invalid"),
        (Endpoint::Score, r#""text_1":"x","text_2":{"content":[]}"#, "media"),
        (
            Endpoint::Rerank,
            r#""query":"x","documents":["y"],"max_tokens_per_doc":4"#,
            "unsupported",
        ),
        (Endpoint::Generate, r#""token_ids":[]"#, "invalid"),
        (Endpoint::Generate, r#""token_ids":[1],"features":{}"#, "media"),
    ] {
        assert_eq!(name(endpoint, &format!(r#"{{"model":"m",{body}}}"#)), refusal, "{body}");
    }
}
