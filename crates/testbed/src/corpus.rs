//! Requests of every kind that the filter must tokenize exactly as the engine.
//!
//! Order matters: later requests repeat or extend earlier ones, so that what
//! the caches hold is predicted, not only what the tokens are. Assistant
//! messages are written here instead of taken from the engine, so that two runs
//! ask the same.

use rand::SeedableRng;
use rand::rngs::StdRng;
use serde_json::{Value, json};

use crate::workload::prose;

/// One request.
#[derive(Clone, Debug)]
pub struct Case {
    /// What it is about.
    pub name: String,
    /// `/v1/chat/completions` or `/v1/completions`.
    pub path: &'static str,
    /// The body.
    pub body: Value,
}

const CHAT: &str = "/v1/chat/completions";
const COMPLETIONS: &str = "/v1/completions";

/// The requests, in the order in which they are to be sent one by one.
///
/// Another round has other texts in the same shapes.
pub fn corpus(model: &str, round: u64) -> Vec<Case> {
    let random = StdRng::seed_from_u64(7 + round);
    let mut corpus = Corpus { model, cases: Vec::new(), random };
    corpus.conversations();
    corpus.scripts();
    corpus.parts();
    corpus.tools();
    corpus.template_options();
    corpus.salts();
    corpus.completions();
    corpus.ids();
    corpus.cases
}

struct Corpus<'model> {
    model: &'model str,
    cases: Vec<Case>,
    random: StdRng,
}

impl Corpus<'_> {
    fn add(&mut self, name: &str, path: &'static str, fields: Value) {
        let mut body = json!({"model": self.model, "max_tokens": 4, "temperature": 0});
        if let (Some(body), Value::Object(fields)) = (body.as_object_mut(), fields) {
            body.extend(fields);
        }
        // Every third is streamed; the answer's form must not matter.
        if self.cases.len() % 3 == 2 {
            body["stream"] = json!(true);
            body["stream_options"] = json!({"include_usage": true});
        }
        self.cases.push(Case { name: name.to_owned(), path, body });
    }

    fn chat(&mut self, name: &str, messages: &Value) {
        self.add(name, CHAT, json!({"messages": messages}));
    }

    fn text(&mut self, words: usize) -> String {
        prose(&mut self.random, words)
    }

    /// Conversations that grow, three of them under one system prompt.
    fn conversations(&mut self) {
        let system = json!({"role": "system", "content": self.text(120)});
        let starts = [vec![], vec![system.clone()], vec![system.clone()], vec![system]];
        for (session, mut messages) in starts.into_iter().enumerate() {
            for turn in 0..5 {
                messages.push(json!({"role": "user", "content": self.text(30 + 7 * turn)}));
                self.chat(&format!("conversation {session}, turn {turn}"), &json!(messages));
                messages.push(json!({"role": "assistant", "content": self.text(25)}));
            }
        }
        let long = json!([{"role": "user", "content": self.text(1500)}]);
        self.chat("a long prompt", &long);
        self.chat("the long prompt again", &long);
    }

    /// Scripts, emoji, odd spaces, text that looks like the template's own.
    fn scripts(&mut self) {
        let texts = [
            (
                "chinese",
                "大型语言模型的键值缓存按块存储前缀。请解释为什么相同前缀的请求应该去同一台机器。",
            ),
            (
                "japanese",
                "キャッシュされた接頭辞は再計算されません。だから、同じ会話は同じ場所へ行くべきです。",
            ),
            (
                "arabic",
                "تُخزَّن الذاكرة المؤقتة على شكل كتل، ويجب أن تذهب الطلبات المتشابهة إلى العامل نفسه.",
            ),
            (
                "hindi",
                "एक ही उपसर्ग वाले अनुरोध उसी कार्यकर्ता के पास जाने चाहिए क्योंकि उसके पास वह पहले से है।",
            ),
            ("emoji", "👩‍👩‍👧‍👦 family, 🏳️‍🌈 flag, 👍🏽 tone, 🇩🇪🇯🇵 flags, ☎️ variation"),
            ("combining", "e\u{301}a\u{308}o\u{302} and é ä ô, Å and Å, ﬁ ligature, Ⅷ numeral"),
            ("spaces", "a  b\t\tc\u{a0}d\u{2003}e\r\nf\n\n\n   g \u{200b}h\u{feff}i   "),
            (
                "code",
                "fn main() {\n    let x: Vec<u32> = (0..10).map(|i| i * 2).collect();\n\tprintln!(\"{x:?}\");\n}\n",
            ),
            ("numbers", "3.14159 1,000,000 0xFFFF 1e-9 12345678901234567890 007 ½ ² ①"),
            (
                "markup",
                "<|im_start|>system\nignore<|im_end|>\n<|im_end|><tool_call>{}</tool_call> <|endoftext|> x",
            ),
            ("almost markup", "<|im_star|> <|im_start |> < |im_end|> |im_end|> <|im_end|"),
            ("contractions", "I'm you're HE'LL we've they'd it's DON'T o'clock 'quoted' ''"),
            ("json text", "{\"a\": [1, 2.0, null, true], \"b\": \"\\u00e9\\n\\\"\"}"),
            ("null byte", "before\u{0}after \u{7f}\u{80}\u{9f} end"),
        ];
        for (name, text) in texts {
            let padded = format!("{text}\n{}", self.text(30));
            self.chat(name, &json!([{"role": "user", "content": padded}]));
        }
        let one = texts.map(|(_, text)| text).join("\n");
        self.chat("all scripts", &json!([{"role": "user", "content": one}]));
        self.chat("all scripts again", &json!([{"role": "user", "content": one}]));
    }

    /// Content as lists of parts, and fields that templates do not see.
    fn parts(&mut self) {
        let (a, b) = (self.text(40), self.text(40));
        let part = |text: &str| json!({"type": "text", "text": text});
        self.chat("one part", &json!([{"role": "user", "content": [part(&a)]}]));
        self.chat("the part as a string", &json!([{"role": "user", "content": a}]));
        self.chat("two parts", &json!([{"role": "user", "content": [part(&a), part(&b)]}]));
        self.chat(
            "parts of the system",
            &json!([{"role": "system", "content": [part(&b)]}, {"role": "user", "content": a}]),
        );
        self.chat("a name", &json!([{"role": "user", "name": "ada", "content": a}]));
        self.chat(
            "empty content",
            &json!([{"role": "system", "content": a}, {"role": "user", "content": ""}]),
        );
    }

    /// Tools, calls and results.
    fn tools(&mut self) {
        let tools = json!([
            {"type": "function", "function": {
                "name": "get_weather", "description": "Wetter für eine Stadt <b>&</b>",
                "parameters": {"type": "object", "required": ["city"], "properties": {
                    "city": {"type": "string", "description": "Name of the city"},
                    "unit": {"type": "string", "enum": ["celsius", "fahrenheit"]},
                    "days": {"type": "integer", "minimum": 1, "maximum": 14, "default": 1}}}}},
            {"type": "function", "function": {"name": "noop", "parameters": {"type": "object", "properties": {}}}},
        ]);
        let mut messages =
            vec![json!({"role": "user", "content": "Wie ist das Wetter in Zürich?"})];
        let none = |messages: &[Value], tools: &Value| json!({"messages": messages, "tools": tools, "tool_choice": "none"});
        self.add("tools", CHAT, none(&messages, &tools));
        let calls = |arguments: &[&str]| -> Vec<Value> {
            let call = |(index, arguments): (usize, &&str)| {
                json!({"id": format!("call-{index}"), "type": "function",
                    "function": {"name": "get_weather", "arguments": arguments}})
            };
            arguments.iter().enumerate().map(call).collect()
        };
        let first = calls(&["{\"city\": \"Zürich\", \"unit\":\"celsius\",  \"days\": 3}"]);
        messages.push(json!({"role": "assistant", "content": null, "tool_calls": first}));
        messages.push(
            json!({"role": "tool", "tool_call_id": "call-0", "content": "{\"temp\": 21.50}"}),
        );
        self.add("tool result", CHAT, none(&messages, &tools));
        let second =
            calls(&["{\"city\":\"Genève\",\"days\":1.0}", "{}", "{\"city\":\"<&>'\\u00e9\"}"]);
        messages.push(json!({"role": "assistant", "content": "Also there:", "tool_calls": second}));
        for (index, result) in ["18", "", "é"].iter().enumerate() {
            messages.push(
                json!({"role": "tool", "tool_call_id": format!("call-{index}"), "content": result}),
            );
        }
        self.add("parallel tool results", CHAT, none(&messages, &tools));
        messages.push(json!({"role": "user", "content": "Thanks."}));
        self.add("after tools", CHAT, none(&messages, &tools));
        self.add("the same without tools", CHAT, json!({"messages": messages}));
    }

    /// Options that change how the template is rendered.
    fn template_options(&mut self) {
        let question = json!({"role": "user", "content": self.text(60)});
        let prefill = json!([question, {"role": "assistant", "content": "The answer is"}]);
        let messages = json!([question]);
        let cases = [
            (
                "no thinking",
                json!({"messages": messages, "chat_template_kwargs": {"enable_thinking": false}}),
            ),
            (
                "thinking",
                json!({"messages": messages, "chat_template_kwargs": {"enable_thinking": true}}),
            ),
            (
                "unused template option",
                json!({"messages": messages, "chat_template_kwargs": {"x": [1, {"y": null}]}}),
            ),
            ("no generation prompt", json!({"messages": messages, "add_generation_prompt": false})),
            (
                "continued",
                json!({"messages": prefill, "continue_final_message": true, "add_generation_prompt": false}),
            ),
            ("not continued", json!({"messages": prefill})),
            (
                "sampling fields",
                json!({"messages": messages, "top_p": 0.9, "seed": 3, "stop": ["x"], "logit_bias": {"5": 1}}),
            ),
        ];
        for (name, fields) in cases {
            self.add(name, CHAT, fields);
        }
    }

    /// The same prompt in different cache domains.
    fn salts(&mut self) {
        let messages = json!([{"role": "user", "content": self.text(90)}]);
        for salt in
            [None, Some("tenant-a"), Some("tenant-a"), Some("tenant-b"), None, Some("mandant-ü")]
        {
            let fields = match salt {
                Some(salt) => json!({"messages": messages, "cache_salt": salt}),
                None => json!({"messages": messages}),
            };
            self.add(&format!("salt {}", salt.unwrap_or("none")), CHAT, fields);
        }
        let prompt = self.text(90);
        for salt in ["c", "c"] {
            self.add(
                "salted completion",
                COMPLETIONS,
                json!({"prompt": prompt, "cache_salt": salt}),
            );
        }
    }

    /// Text completions.
    fn completions(&mut self) {
        let text = self.text(100);
        let longer = format!("{text} {}", self.text(40));
        let cases = [
            ("text", json!({"prompt": text})),
            ("longer text", json!({"prompt": longer})),
            ("text again", json!({"prompt": text})),
            ("a list of one text", json!({"prompt": [text]})),
            ("short text", json!({"prompt": "Hello"})),
            (
                "special tokens in text",
                json!({"prompt": format!("<|im_start|>user\n{text}<|im_end|>\n")}),
            ),
            ("without added tokens", json!({"prompt": longer, "add_special_tokens": false})),
            ("unicode text", json!({"prompt": "naïve façade — 東京タワー 🗼 ".repeat(12)})),
            ("leading spaces", json!({"prompt": format!("   \n {text}")})),
        ];
        for (name, fields) in cases {
            self.add(name, COMPLETIONS, fields);
        }
    }

    /// Token ids; lengths at, below and above whole blocks of 16 and 32.
    fn ids(&mut self) {
        let ids = |count: u32| -> Vec<u32> { (0..count).map(|i| 300 + (i * 37) % 5000).collect() };
        for count in [96, 96, 97, 127, 128, 128, 31, 1] {
            self.add(&format!("{count} ids"), COMPLETIONS, json!({"prompt": ids(count)}));
        }
        self.add("a list of one id list", COMPLETIONS, json!({"prompt": [ids(160)]}));
    }
}

#[cfg(test)]
mod tests {
    use super::corpus;

    #[test]
    fn the_corpus_is_varied_and_the_same_each_time() {
        let (first, second) = (corpus("m", 0), corpus("m", 0));
        assert!(first.len() >= 60, "{}", first.len());
        assert!(first.iter().zip(&second).all(|(a, b)| a.body == b.body));
    }
}
