//! Any template over any conversation ends, within its limits, and without a panic.
//!
//! Input: the template, a zero byte, the body of a chat request.

use warmpath_prompt::{
    ChatTemplate, ContentFormat, Encode, Endpoint, Model, ModelSpec, Refusal, parse,
};

/// What a template may write at most, see `template.rs` in the prompt crate.
const MOST_BYTES: usize = 64 << 20;

/// One id, however long the text: what is encoded is not the matter here.
struct Length;

impl Encode for Length {
    fn encode(&self, text: &str, ids: &mut Vec<u32>) -> Result<(), Refusal> {
        assert!(text.len() <= MOST_BYTES, "{} bytes", text.len());
        ids.push(u32::try_from(text.len()).unwrap_or(u32::MAX));
        Ok(())
    }
}

const BODY: &[u8] = br#"{"model":"m","messages":[{"role":"system","content":"s"},{"role":"user","content":[{"type":"text","text":"a\nb"}]},{"role":"assistant","content":null,"tool_calls":[{"id":"1","type":"function","function":{"name":"f","arguments":"{\"x\":1e-7}"}}]},{"role":"tool","tool_call_id":"1","content":"{}"}],"tools":[{"type":"function","function":{"name":"f","parameters":{"type":"object"}}}]}"#;

pub(crate) fn check(data: &[u8]) {
    let (source, body) = match data.iter().position(|&byte| byte == 0) {
        Some(at) => (&data[..at], &data[at + 1..]),
        None => (data, BODY),
    };
    let Ok(source) = std::str::from_utf8(source) else { return };
    if slices(source) {
        return;
    }
    for content in [ContentFormat::String, ContentFormat::Openai] {
        let Ok(template) = ChatTemplate::new(source.to_owned(), content) else { return };
        let mut spec = ModelSpec::default();
        spec.templates.insert("default".to_owned(), template);
        let Ok(model) = Model::new(spec, Box::new(Length)) else { return };
        let Ok(request) = parse(Endpoint::Chat, body) else { return };
        let once = model.tokenize(&request, 0);
        assert_eq!(once, model.tokenize(&request, 0), "rendering is repeatable");
    }
}

/// Whether anything may be a slice with a step. minijinja 3.0 panics on some that go
/// backwards, so that models with such templates are refused when they are loaded; here
/// nothing is loaded.
fn slices(source: &str) -> bool {
    let inside =
        |text: &str| text.split(']').next().is_some_and(|index| index.matches(':').count() > 1);
    source.split('[').skip(1).any(inside)
}
