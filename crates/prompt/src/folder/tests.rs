use super::*;
use crate::ContentFormat;
use tempfile::TempDir;

fn tiny() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/models/tiny")
}

/// A copy of the test model, some of its files replaced; `None` removes one.
fn copy(files: &[(&str, Option<&str>)]) -> TempDir {
    let copy = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(tiny()).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, copy.path().join(path.file_name().unwrap())).unwrap();
    }
    for (name, text) in files {
        let path = copy.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        match text {
            Some(text) => std::fs::write(path, text).unwrap(),
            None => std::fs::remove_file(path).unwrap(),
        }
    }
    copy
}

fn load(files: &[(&str, Option<&str>)]) -> Result<ModelFolder, LoadError> {
    ModelFolder::load(copy(files).path())
}

fn refused(files: &[(&str, Option<&str>)]) -> String {
    load(files).unwrap_err().to_string()
}

/// The test model's `name`, one text in it replaced.
fn edited(name: &str, from: &str, to: &str) -> String {
    let text = std::fs::read_to_string(tiny().join(name)).unwrap();
    assert!(text.contains(from), "{name} has no {from}");
    text.replacen(from, to, 1)
}

#[test]
fn a_folder_gives_templates_and_special_tokens() {
    let spec = load(&[]).unwrap().spec;
    assert_eq!(spec.templates.keys().collect::<Vec<_>>(), ["default"]);
    assert_eq!(spec.special_tokens["eos_token"], "<|im_end|>");
    assert_eq!(spec.special_tokens.get("bos_token"), None);
    assert!(spec.prefix.is_empty() && spec.suffix.is_empty());
    let text = serde_json::to_string(&spec).unwrap();
    assert_eq!(serde_json::from_str::<ModelSpec>(&text).unwrap(), spec);
}

#[test]
fn a_missing_or_broken_file_is_named() {
    assert!(refused(&[("tokenizer.json", None)]).contains("tokenizer.json"));
    assert!(refused(&[("tokenizer.json", Some("{}"))]).contains("tokenizer.json"));
    assert!(refused(&[("tokenizer_config.json", Some("["))]).contains("tokenizer_config.json"));
    assert!(refused(&[("config.json", Some("[]"))]).contains("config.json"));
}

#[test]
fn a_template_file_wins_over_the_configuration() {
    let config = edited("tokenizer_config.json", "{", r#"{"chat_template":"config","#);
    let from = |files: &[(&str, Option<&str>)]| load(files).unwrap().spec.templates;
    let both = from(&[
        ("tokenizer_config.json", Some(config.as_str())),
        ("chat_template.jinja", Some("file")),
    ]);
    assert_eq!(both["default"].source, "file");
    let one =
        from(&[("tokenizer_config.json", Some(config.as_str())), ("chat_template.jinja", None)]);
    assert_eq!(one["default"].source, "config");
    let named = from(&[("additional_chat_templates/tool_use.jinja", Some("tools"))]);
    assert_eq!(named["tool_use"].source, "tools");
    assert_eq!(named.len(), 2);
    let listed = edited(
        "tokenizer_config.json",
        "{",
        r#"{"chat_template":[{"name":"default","template":"a"},
            {"name":"tool_use","template":"{% for c in content %}{% endfor %}"}],"#,
    );
    let listed =
        from(&[("tokenizer_config.json", Some(listed.as_str())), ("chat_template.jinja", None)]);
    assert_eq!(listed["default"].content, ContentFormat::String);
    assert_eq!(listed["tool_use"].content, ContentFormat::Openai);
}

#[test]
fn a_template_that_cannot_be_used_costs_chat_only() {
    for (files, reason) in [
        (vec![("chat_template.jinja", Some("{% if %}"))], "default cannot be used"),
        (vec![("chat_template.jinja", Some("{{ x[::-2] }}"))], "backwards"),
        (
            vec![
                ("chat_template.json", Some(r#"{"chat_template":"other"}"#)),
                ("chat_template.jinja", None),
            ],
            "chat_template.json",
        ),
        (vec![("config.json", Some(r#"{"model_type":"gpt_oss"}"#))], "Harmony"),
    ] {
        let spec = load(&files).unwrap().spec;
        assert!(spec.templates.is_empty());
        assert!(spec.no_templates.unwrap().contains(reason), "{reason}");
    }
}

#[test]
fn tokenizers_that_the_engine_builds_otherwise_are_refused() {
    let class = |name: &str| edited("tokenizer_config.json", "PreTrainedTokenizerFast", name);
    let plain = Some(r#"{"model_type":"custom"}"#);
    let config =
        |text: &str| refused(&[("tokenizer_config.json", Some(text)), ("config.json", plain)]);
    assert!(config(&class("GemmaTokenizerFast")).contains("GemmaTokenizerFast"));
    assert!(config(&class("LlamaTokenizerFast")).contains("Llama"));
    assert!(
        config(&edited("tokenizer_config.json", "{", r#"{"auto_map":{},"#)).contains("auto_map")
    );
    assert!(
        config(&edited("tokenizer_config.json", "{", r#"{"split_special_tokens":true,"#))
            .contains("split_special_tokens")
    );
    assert!(refused(&[("tekken.json", Some("{}"))]).contains("Mistral"));
    let own = r#"{"architectures":["DeepseekV32ForCausalLM"]}"#;
    assert!(refused(&[("config.json", Some(own))]).contains("DeepseekV32"));
    let other = edited("tokenizer.json", r#""type":"NFC""#, r#""type":"NFKC""#);
    assert!(refused(&[("tokenizer.json", Some(&other))]).contains("Qwen2"));
}

#[test]
fn a_class_built_in_code_does_not_know_added_tokens_that_the_configuration_leaves_out() {
    let config = std::fs::read_to_string(tiny().join("tokenizer_config.json")).unwrap();
    let mut config: serde_json::Value = serde_json::from_str(&config).unwrap();
    let tokenizer = std::fs::read_to_string(tiny().join("tokenizer.json")).unwrap();
    let tokenizer: serde_json::Value = serde_json::from_str(&tokenizer).unwrap();
    let added = tokenizer["added_tokens"].as_array().unwrap();
    let described = |tokens: &[serde_json::Value]| -> serde_json::Map<_, _> {
        tokens.iter().map(|token| (token["id"].to_string(), token.clone())).collect()
    };
    let (last, others) = added.split_last().unwrap();
    config["added_tokens_decoder"] = described(others).into();
    // A token with a name is one whatever the list says.
    config["eos_token"] = others[0]["content"].clone();
    config["additional_special_tokens"] = serde_json::json!([]);
    let folder = load(&[("tokenizer_config.json", Some(&config.to_string()))]).unwrap();
    let mut ids = Vec::new();
    let last = last["content"].as_str().unwrap();
    crate::Encode::encode(&folder.encoder(), last, &mut ids).unwrap();
    assert!(ids.len() > 1, "{ids:?}");

    config["added_tokens_decoder"] = described(&added[1..]).into();
    let error = refused(&[("tokenizer_config.json", Some(&config.to_string()))]);
    assert!(error.contains("between others"), "{error}");
}

#[test]
fn tokens_of_the_configuration_alone_are_added() {
    let config = edited(
        "tokenizer_config.json",
        r#""pad_token": "<|endoftext|>""#,
        r#""pad_token": "<pad>", "image_token": "<image>""#,
    );
    let folder = load(&[
        ("tokenizer_config.json", Some(&config)),
        ("config.json", Some(r#"{"model_type":"custom"}"#)),
    ])
    .unwrap();
    assert_eq!(folder.spec.special_tokens["image_token"], "<image>");
    let mut ids = Vec::new();
    crate::Encode::encode(&folder.encoder(), "<pad><image><pad", &mut ids).unwrap();
    assert_eq!(ids[..2], [8192, 8193]);
    assert!(ids.len() > 3);
}

#[test]
fn the_post_processors_tokens_become_prefix_and_suffix() {
    let processor = r#""post_processor":{"type":"TemplateProcessing","single":[
        {"SpecialToken":{"id":"<|im_start|>","type_id":0}},{"Sequence":{"id":"A","type_id":0}},
        {"SpecialToken":{"id":"<|im_end|>","type_id":0}}],"pair":[{"Sequence":{"id":"A","type_id":0}},
        {"Sequence":{"id":"B","type_id":1}}],"special_tokens":{
        "<|im_start|>":{"id":"<|im_start|>","ids":[8190],"tokens":["<|im_start|>"]},
        "<|im_end|>":{"id":"<|im_end|>","ids":[8191],"tokens":["<|im_end|>"]}}}"#;
    let tokenizer = edited("tokenizer.json", r#""post_processor":null"#, processor);
    let spec = load(&[("tokenizer.json", Some(&tokenizer))]).unwrap().spec;
    assert_eq!((spec.prefix, spec.suffix), (vec![8190], vec![8191]));
}

#[test]
fn a_table_that_differs_from_the_library_is_refused() {
    let lowercase = edited("tokenizer.json", r#"{"type":"NFC"}"#, r#"{"type":"StripAccents"}"#);
    let folder = load(&[
        ("tokenizer.json", Some(&lowercase)),
        ("config.json", Some(r#"{"model_type":"custom"}"#)),
    ])
    .unwrap();
    assert!(matches!(folder.table(), Err(LoadError::Table(_))));
}
