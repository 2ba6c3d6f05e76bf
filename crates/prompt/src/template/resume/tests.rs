use super::super::value::{self, Entries};
use super::super::{Template, Watch};
use crate::json;
use minijinja::Value;
use proptest::prelude::*;
use std::sync::Arc;

const NOW: u64 = 1_795_000_000;

fn entries(message: &str) -> Entries {
    let json::Json::Dict(dict) = json::read(message).unwrap() else { panic!("{message}") };
    value::from_dict(&dict).collect()
}

/// What the template sees of `messages`, given to it whole or as in a conversation whose
/// first ones are known.
fn variables(messages: &[&str], watch: &Arc<Watch>, known: usize) -> Vec<(Arc<str>, Value)> {
    let item = |(at, message): (usize, &&str)| {
        let message = (*message).to_owned();
        if at < known {
            return value::late_message(watch, at, Box::new(move || entries(&message)));
        }
        value::message(watch, at, entries(&message))
    };
    let items = messages.iter().enumerate().map(item).collect();
    let tools = json::read(r#"[{"type": "function", "function": {"name": "f"}}]"#).unwrap();
    vec![
        (Arc::from("messages"), value::messages(watch, items)),
        (Arc::from("add_generation_prompt"), Value::from(true)),
        (Arc::from("bos_token"), Value::from("<s>")),
        (Arc::from("eos_token"), Value::from("</s>")),
        (
            Arc::from("tools"),
            if messages.len() % 5 == 4 { value::from_json(&tools) } else { ().into() },
        ),
    ]
}

fn family(name: &str) -> String {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = folder.join("tests/prompts/templates/families");
    std::fs::read_to_string(folder.join(format!("{name}.jinja"))).unwrap()
}

const MESSAGES: [&str; 9] = [
    r#"{"role": "system", "content": "Be brief. "}"#,
    r#"{"role": "user", "content": "Hello"}"#,
    r#"{"role": "assistant", "content": " Hi. "}"#,
    r#"{"role": "user", "content": "What is the weather?"}"#,
    r#"{"role": "assistant", "content": "", "tool_calls": [{"id": "123456789", "type": "function", "function": {"name": "f", "arguments": {"a": 1.5}}}]}"#,
    r#"{"role": "tool", "content": "rain", "tool_call_id": "123456789"}"#,
    r#"{"role": "tool", "content": "wind", "tool_call_id": "123456789"}"#,
    r#"{"role": "assistant", "content": "<think>so</think>Bad."}"#,
    r#"{"role": "user", "content": "Thanks"}"#,
];

/// Every place that the rendering of `old` tells of is one that each longer conversation
/// can be rendered from; says how many there were.
fn check(source: &str, messages: &[&str], more: &[&str]) -> usize {
    let template = Template::new(source).unwrap();
    let watch = Arc::new(Watch::default());
    let old = template.render_watched(variables(messages, &watch, 0), NOW, &watch, String::new());
    let Ok(old) = old else { return 0 };
    let marks = watch.marks();
    let longer = [messages, more].concat();
    let mut done = 0;
    for mark in &marks {
        // Another end behind what is rendered is as good.
        for longer in [&longer[..], &[&messages[..mark.messages], more].concat()] {
            if longer.len() <= mark.messages {
                continue;
            }
            let plain = Arc::default();
            let whole = variables(longer, &plain, 0);
            let tools = |count: usize| count % 5 == 4;
            if tools(longer.len()) != tools(messages.len()) {
                continue;
            }
            let whole = template.render_watched(whole, NOW, &plain, String::new());
            let watch = Arc::new(Watch::from_mark(mark.messages, mark.saved.clone()));
            let resumed = variables(longer, &watch, mark.messages);
            let lead = old[..mark.written].to_owned();
            let resumed = template.render_watched(resumed, NOW, &watch, lead);
            assert_eq!(whole, resumed, "{source}\nfrom {} of {longer:?}", mark.messages);
            done += usize::from(whole.is_ok());
        }
    }
    done
}

#[test]
fn a_rewritten_template_renders_the_same() {
    for name in ["chatml", "qwen2.5", "llama3", "gemma3", "mistral-v7", "qwen3", "deepseek-v3"] {
        let source = family(name);
        let mut template = Template::new(&source).unwrap();
        let is_rewritten = template.is_resumable();
        assert!(is_rewritten, "{name}");
        let rewritten: Vec<_> = (1..=MESSAGES.len())
            .map(|count| {
                let watch = Arc::default();
                let variables = variables(&MESSAGES[..count], &watch, 0);
                template.render_watched(variables, NOW, &watch, String::new())
            })
            .collect();
        let compiled = super::super::source::join_sums(&super::super::prepare(&source));
        template.environment.add_template_owned(super::super::NAME, compiled).unwrap();
        for (count, rewritten) in (1..).zip(rewritten) {
            let watch = Arc::default();
            let variables = variables(&MESSAGES[..count], &watch, 0);
            let plain = template.render_watched(variables, NOW, &watch, String::new());
            assert_eq!(plain, rewritten, "{name}");
        }
    }
}

/// What is left of each rendering of a VM that lives for weeks is its memory.
#[test]
fn a_rendering_leaves_nothing_behind() {
    for name in ["chatml", "qwen2.5"] {
        let template = Template::new(&family(name)).unwrap();
        let watch = Arc::default();
        let variables = variables(&MESSAGES, &watch, 0);
        template.render_watched(variables, NOW, &watch, String::new()).unwrap();
        assert!(!watch.marks().is_empty());
        assert_eq!(Arc::strong_count(&watch), 1, "{name}: a value has what has the value");
    }
}

#[test]
fn longer_conversations_go_on_from_where_shorter_ones_were() {
    let mut counts = Vec::new();
    for name in ["chatml", "qwen2.5", "llama3", "gemma2", "gemma3", "mistral-v7", "deepseek-v3"] {
        let source = family(name);
        let mut count = 0;
        for from in [0, 1] {
            for to in from + 1..=MESSAGES.len() {
                for until in to..=MESSAGES.len() {
                    count += check(&source, &MESSAGES[from..to], &MESSAGES[to..until]);
                }
            }
        }
        counts.push((name, count));
    }
    println!("{counts:?}");
    assert!(counts[..3].iter().all(|(_, count)| *count > 20), "{counts:?}");
}

#[test]
fn what_carries_more_along_is_left_alone() {
    for source in [
        "{% for m in messages %}{{ loop.changed(m.role) }}{% endfor %}",
        "{% for m in messages %}{{ loop.cycle('a', 'b') }}{% endfor %}",
        "{% for m in messages %}{{ loop }}{% endfor %}",
        "{% for m in messages %}{{ m.content }}{% break %}{% endfor %}",
        "{% for m in messages recursive %}{{ m.content }}{% endfor %}",
        "{% for m in messages if m.content %}{{ m.content }}{% endfor %}",
        "{% for m in messages|list %}{{ m.content }}{% endfor %}",
        "{% for x in [1, 2] %}{% for m in messages %}{{ m.content }}{% endfor %}{% endfor %}",
        "{% macro f() %}{% for m in messages %}{{ m.content }}{% endfor %}{% endmacro %}{{ f() }}",
        "{% set x %}{% for m in messages %}{{ m.content }}{% endfor %}{% endset %}{{ x }}",
        "{% filter upper %}{% for m in messages %}{{ m.content }}{% endfor %}{% endfilter %}",
        "{% set a = namespace(x=1) %}{% set b = a %}{% for m in messages %}{% set b.x = 2 %}{{ a.x }}{% endfor %}",
        "{% if true %}{% set a = namespace(x=1) %}{% endif %}{% for m in messages %}{% set a.x = 2 %}{% endfor %}",
        "{% set a = [namespace(x=1)] %}{% set b = a[0] %}{% for m in messages %}{% set b.x = 2 %}{% endfor %}",
        "{% for m in messages %}{% for c in m.content %}{{ c }}{% else %}x{% endfor %}{% endfor %}{% block b %}{% endblock %}",
    ] {
        assert!(!Template::new(source).unwrap().is_resumable(), "{source}");
    }
}

/// Pieces of loop bodies.
const BODY: [&str; 16] = [
    "{{ m.content }}",
    "{{- m['role'] -}}",
    "\n  {%- if loop.first %} a {% endif %}\n",
    "{% if loop.last %}z{% endif %}\n",
    "{{ loop.index }}.{{ loop.index0 }}",
    "{{ loop.length }}",
    "{% if loop.previtem is defined and loop.previtem.role == m.role %}={% endif %}",
    "{% if loop.nextitem is defined %}{{ loop.nextitem.role }}{% endif %}",
    "{% if loop.index0 > 0 %}{{ messages[loop.index0 - 1].role }}{% endif %}",
    "{{ messages[loop.index0 + 1] is defined }}",
    "{{ messages[-1].role }}",
    "{% set ns.count = ns.count + 1 %}{{ ns.count }}",
    "{% if m.role == 'user' %}{% set ns.last = m.content %}{% endif %}{{ ns.last }}",
    "{% for c in [1, 2] %}{{ loop.index }}{% if loop.last %};{% endif %}{% endfor %}",
    "{% if m.role == 'tool' %}{% continue %}{% endif %}",
    "{% set x = m.role %}{{ x }}",
];
const HEAD: [&str; 6] = [
    "{% set first = messages[0].role %}{{ first }}",
    "{% set messages = messages[1:] %}",
    "{{ messages|length }}",
    "{{ strftime_now('%d %B') }} ",
    "{% if tools %}{{ tools|tojson }}{% endif %}\n",
    "{% for m in messages %}{{ m.role }}{% endfor %}",
];
const LOOPS: [(&str, &str); 4] = [
    ("{% for m in messages %}", "{% endfor %}"),
    ("{%- for m in messages -%}", "{%- endfor -%}"),
    ("\n    {% for m in messages %}\n", "\n  {% endfor %}\n"),
    ("{%+ for m in messages +%}\n", "\n{%+ endfor +%}\n"),
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_template_goes_on_as_it_began(
        head in prop::collection::vec(0..HEAD.len(), 0..3),
        body in prop::collection::vec(0..BODY.len(), 1..6),
        around in 0..LOOPS.len(),
        picked in prop::collection::vec(0..MESSAGES.len(), 1..8),
        known in 1usize..8,
    ) {
        let head: String = head.iter().map(|at| HEAD[*at]).collect();
        let body: String = body.iter().map(|at| BODY[*at]).collect();
        let (open, close) = LOOPS[around];
        let source = format!(
            "{{% set ns = namespace(count=0, last='') %}}{head} {open} {body} {close} {{{{ ns.count }}}} \
             {{{{ messages|length }}}}"
        );
        let messages: Vec<&str> = picked.iter().map(|at| MESSAGES[*at]).collect();
        let (old, more) = messages.split_at(known.min(messages.len()));
        check(&source, old, more);
    }
}
