//! Small templates, against what transformers' Jinja made of them.
//!
//! `tests/prompts/make_snippets.py` recorded it. What renders has the same text;
//! what is refused is listed here, so that nothing joins the list unseen.

use super::*;
use serde_json::Value as Recorded;

const RECORDED: &str = include_str!("../../../tests/prompts/snippets.jsonl");
/// Templates that transformers renders and this crate refuses.
const REFUSED: [&str; 30] = [
    "{{ 7 | float }} {{ '1e-7' | float }} {{ 'x' | float }} {{ '12' | int }} {{ 'x' | int }} {{ 3.9 | int }}",
    "{{ 'abc'.encode() }}",
    "{{ 'abc'.encode('utf-8') | length }}",
    "{{ 'a'.encode().decode() }}",
    "{{ messages[2].content.title() }}",
    "{{ 'a,b'.replace(',', ';') }} {{ 'aaa'.replace('a', 'b', 2) }} {{ 'aaa' | replace('a', 'b', 1) }} {{ 'ab'.replace('', '-') }}",
    "{{ '٣'.isdigit() }} {{ '½'.isnumeric() }} {{ 'é'.isalpha() }} {{ 'É'.isupper() }}",
    "{{ '%s and %s' % ('a', 1) }}",
    "{{ '%s' % 'x' }}",
    "{{ '%d%%' % 5 }}",
    "{{ '%.2f' % 1.005 }}",
    "{{ 'a\\tb'.expandtabs(4) }}",
    "{{ 'abc'.translate({97: 'x'}) }}",
    "{{ [1, 2] + [3] }}",
    "{{ [1, 2] * 2 }}",
    "{{ {1: 'x', none: 2, true: 3} }}",
    "{{ messages[1].content | wordcount }}",
    "{{ 'a b' | wordwrap(1) }}",
    "{{ 'abcdef' | truncate(5, true, '..', 0) }}",
    "{{ 'a b' | urlencode }}",
    "{{ '<b>x</b> y' | striptags }}",
    "{{ [1] | pprint }}",
    "{{ 1000 | filesizeformat }}",
    "{{ ['x'] | random }}",
    "{{ lipsum(n=1) }}",
    "{{ self }}",
    "{% macro f(a, b=2) %}{{ a }}{{ b }}{{ varargs }}{{ kwargs }}{% endmacro %}{{ f(1) }}",
    "{{ ['\\u2028'] }}",
    "{% autoescape true %}{{ '<' }}{% endautoescape %}",
    "{{ varargs }}",
];

#[test]
fn what_renders_is_transformers_text() {
    let lines: Vec<Recorded> =
        RECORDED.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let (_, snippets) = lines.split_last().unwrap();
    let data = RECORDED.lines().next_back().unwrap();
    let Ok(json::Json::Dict(data)) = json::read(data) else { panic!("{data}") };
    let mut variables: Vec<_> = value::from_dict(&data).collect();
    variables.push(("documents".into(), Value::from(())));
    variables.push(("add_generation_prompt".into(), Value::from(true)));
    let (mut wrong, mut refused) = (Vec::new(), Vec::new());
    for line in snippets {
        let (source, Some(text)) = (line["source"].as_str().unwrap(), line["text"].as_str()) else {
            continue;
        };
        let usable = crate::detect::content_format(source).and_then(|_| Template::new(source));
        match usable.map(|template| template.render(variables.clone(), NOW)) {
            Ok(Ok(found)) if found == text => {}
            Ok(Ok(found)) => wrong.push(format!("{source}\n    {found:?}\n    {text:?}")),
            Ok(Err(_)) | Err(_) => refused.push(source),
        }
    }
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
    assert_eq!(refused, REFUSED);
}
