//! Nothing that a client can send makes this crate panic.
#![cfg(feature = "library")]

use proptest::prelude::*;
use std::path::Path;
use std::sync::LazyLock;
use warmpath_prompt::{ContentFormat, Endpoint, Model, ModelFolder, parse};
use warmpath_prompt::{Encode, LibraryEncoder, TableEncoder};

const PARTS: &str = include_str!("prompts/templates/parts.jinja");
const FEATURES: &str = include_str!("prompts/templates/features.jinja");

/// The test model: as it is, and with templates that use much of the language.
static MODELS: LazyLock<Vec<Model>> = LazyLock::new(|| {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/models/tiny");
    let folder = ModelFolder::load(&path).unwrap();
    let own = folder.spec.templates["default"].clone();
    let other = [
        own,
        warmpath_prompt::ChatTemplate::new(PARTS.into(), ContentFormat::Openai).unwrap(),
        warmpath_prompt::ChatTemplate::new(FEATURES.into(), ContentFormat::String).unwrap(),
    ];
    other
        .into_iter()
        .map(|template| {
            let mut spec = folder.spec.clone();
            spec.templates.insert("default".into(), template);
            Model::new(spec, Box::new(folder.encoder())).unwrap()
        })
        .collect()
});

static ENCODERS: LazyLock<(LibraryEncoder, TableEncoder)> = LazyLock::new(|| {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/models/tiny");
    let folder = ModelFolder::load(&path).unwrap();
    (folder.encoder(), TableEncoder::from_bytes(folder.table().unwrap()).unwrap())
});

/// Text of all kinds: any characters, marks on letters, runs, special tokens.
fn text() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        "\\PC{0,12}",
        "[a-z\u{300}-\u{36f}\u{5b0}-\u{5c7}\u{1100}-\u{11ff}]{0,12}",
        "[ \t\r\n]{0,8}",
        "[0-9.,'a-zA-Z]{0,12}",
        "(<\\|im_start\\|>|<\\|im_end\\|>|<\\|endof|text\\|>){0,3}",
    ];
    prop::collection::vec(piece, 0..8).prop_map(|pieces| pieces.concat())
}

fn survive(body: &[u8]) {
    for endpoint in Endpoint::ALL {
        let Ok(request) = parse(endpoint, body) else { continue };
        for model in MODELS.iter() {
            if let Ok(prompts) = model.tokenize(&request, 0) {
                assert!(!prompts.ids.is_empty());
            }
        }
    }
}

/// JSON with the words that bodies are made of, in places where they belong and not.
fn json() -> impl Strategy<Value = String> {
    let word = prop_oneof![
        Just("content"),
        Just("role"),
        Just("user"),
        Just("assistant"),
        Just("system"),
        Just("tool"),
        Just("developer"),
        Just("text"),
        Just("type"),
        Just("function"),
        Just("name"),
        Just("arguments"),
        Just("{\\\"a\\\":1}"),
        Just("id"),
        Just("tool_calls"),
        Just("reasoning_content"),
        Just("</think>"),
        Just("\\u0000"),
        Just("<|im_end|>"),
        Just(""),
    ];
    let leaf = prop_oneof![
        word.clone().prop_map(|word| format!("\"{word}\"")),
        any::<i64>().prop_map(|number| number.to_string()),
        Just("null".to_owned()),
        Just("true".to_owned()),
        Just("1e-7".to_owned()),
        "[ -~é漢]{0,6}".prop_map(|text| serde_json::to_string(&text).unwrap()),
    ];
    leaf.prop_recursive(4, 40, 5, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5)
                .prop_map(|items| format!("[{}]", items.join(","))),
            prop::collection::vec((word.clone(), inner), 0..6).prop_map(|entries| {
                let entries: Vec<String> =
                    entries.iter().map(|(key, value)| format!("\"{key}\":{value}")).collect();
                format!("{{{}}}", entries.join(","))
            }),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        survive(&bytes);
    }

    #[test]
    fn any_json_in_any_field(
        messages in json(), role in "user|assistant|system|tool|developer|x", content in json(),
        calls in json(), tools in json(), kwargs in json(), prompt in json(), open in any::<bool>(),
    ) {
        survive(format!(r#"{{"model":"m","messages":{messages},"prompt":{prompt}}}"#).as_bytes());
        let message = format!(r#"{{"role":"{role}","content":{content},"reasoning":{kwargs}}}"#);
        survive(format!(r#"{{"model":"m","messages":[{message},{message}],"chat_template_kwargs":{kwargs},
            "add_generation_prompt":{},"continue_final_message":{open}}}"#, !open).as_bytes());
        let call = format!(r#"{{"id":"1","type":"function","function":{{"name":"f","arguments":{calls}}}}}"#);
        let tool = format!(r#"{{"type":"function","function":{{"name":"f","parameters":{{"a":{tools}}}}}}}"#);
        survive(format!(r#"{{"model":"m","tools":[{tool}],"messages":[
            {{"role":"assistant","content":"x","tool_calls":[{call}]}},{{"role":"{role}","content":"y"}}]}}"#).as_bytes());
    }

    #[test]
    fn any_json_in_the_fields_of_any_endpoint(
        input in json(), system in json(), tools in json(), block in json(), kwargs in json(),
        kind in "text|thinking|tool_use|tool_result|image|message|reasoning|function_call|x",
        role in "user|assistant|system|developer|x",
    ) {
        survive(format!(r#"{{"model":"m","input":{input},"instructions":{system},"tools":{tools},"reasoning":{kwargs},
            "query":{input},"documents":{block},"text_1":{system},"text_2":{block},"token_ids":{input}}}"#).as_bytes());
        let item = format!(r#"{{"type":"{kind}","role":"{role}","content":{block},"text":{input},"thinking":{input},
            "id":"1","call_id":"1","name":"f","input":{kwargs},"arguments":"{{}}","summary":[],"output":{input}}}"#);
        survive(format!(r#"{{"model":"m","input":[{item},{item}],"tools":[{{"type":"function","name":"f","parameters":{kwargs}}}]}}"#).as_bytes());
        let message = format!(r#"{{"role":"{role}","content":[{item},{block}]}}"#);
        survive(format!(r#"{{"model":"m","max_tokens":1,"messages":[{message},{message}],"system":{system},
            "tools":[{{"name":"f","input_schema":{kwargs}}}],"thinking":{{"type":"disabled"}}}}"#).as_bytes());
    }

    #[test]
    fn any_text_has_the_librarys_ids_or_none(text in text()) {
        let (mut expected, mut found) = (Vec::new(), Vec::new());
        ENCODERS.0.encode(&text, &mut expected).unwrap();
        if ENCODERS.1.encode(&text, &mut found).is_ok() {
            prop_assert_eq!(expected, found);
        }
    }

    #[test]
    fn any_change_of_a_good_body(at in 0usize..118, byte in any::<u8>()) {
        let mut body = br#"{"model":"m","messages":[{"role":"user","content":[{"type":"text","text":"hi"}]}],"tools":[{"function":{"name":"f"}}]}"#.to_vec();
        body[at] = byte;
        survive(&body);
    }
}
