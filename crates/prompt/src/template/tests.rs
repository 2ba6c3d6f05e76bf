use super::*;
use crate::json;

mod snippets;

const DATA: &str = r#"{"m":[{"role":"a","n":1},{"role":"b","n":2},{"role":"c"}],"s":" a-b ",
    "empty":[],"blank":"","d":{"items":1,"k":"it's","f":1e-7,"t":[true,null]},"big":1e16,
    "huge":123456789012345678901234567890,"u":"é\u001c\u2028","tab":"a\tb\\"}"#;
/// 2026-11-20 12:00:00 UTC, a Friday.
const NOW: u64 = 1_795_176_000;

fn render(source: &str) -> Result<String, Refusal> {
    let Ok(json::Json::Dict(variables)) = json::read(DATA) else { panic!("{DATA}") };
    let template = Template::new(source).unwrap();
    template.render(value::from_dict(&variables).collect(), NOW)
}

fn shown(source: &str) -> String {
    render(source).unwrap_or_else(|refusal| panic!("{source}: {refusal}"))
}

#[test]
fn values_print_as_in_python() {
    for (source, text) in [
        (
            "{{ none }} {{ true }} {{ 1.0 }} {{ 1e-7 }} {{ big }} {{ huge }}",
            "None True 1.0 1e-07 1e+16 123456789012345678901234567890",
        ),
        ("{{ d }}", r#"{'items': 1, 'k': "it's", 'f': 1e-07, 't': [True, None]}"#),
        ("{{ m[0] ~ '!' }}", "{'role': 'a', 'n': 1}!"),
        (
            "{{ [1, 'x', none] }} {{ (1,) }} {{ {'a': tab} }}",
            r"[1, 'x', None] (1,) {'a': 'a\tb\\'}",
        ),
        (
            "{{ missing }}|{{ d.missing }}|{{ d | string }}",
            r#"||{'items': 1, 'k': "it's", 'f': 1e-07, 't': [True, None]}"#,
        ),
        ("{{ [1, 2.5, none] | join('-') }}", "1-2.5-None"),
    ] {
        assert_eq!(shown(source), text, "{source}");
    }
}

#[test]
fn tojson_is_pythons_json_dumps() {
    for (source, text) in [
        ("{{ d | tojson }}", r#"{"items": 1, "k": "it's", "f": 1e-07, "t": [true, null]}"#),
        ("{{ [1, {}] | tojson(indent=2) }}", "[\n  1,\n  {}\n]"),
        (
            "{{ d | tojson(separators=(',', ':'), sort_keys=true) }}",
            r#"{"f":1e-07,"items":1,"k":"it's","t":[true,null]}"#,
        ),
        (
            "{{ u | tojson }} {{ u | tojson(true) }}",
            "\"é\\u001c\u{2028}\" \"\\u00e9\\u001c\\u2028\"",
        ),
        ("{{ '<&>' | tojson }} {{ tab | tojson }}", r#""<&>" "a\tb\\""#),
        ("{{ {1: none, true: 2.0} | tojson }}", r#"{"1": null, "true": 2.0}"#),
    ] {
        assert_eq!(shown(source), text, "{source}");
    }
    assert_eq!(render("{{ missing | tojson }}").unwrap_err().name(), "template");
}

#[test]
fn methods_are_pythons() {
    for (source, text) in [
        (
            "{{ s.strip() }}|{{ s.lstrip() }}|{{ s.rstrip() }}|{{ 'xay'.strip('xy') }}",
            "a-b|a-b | a-b|a",
        ),
        ("{{ u.strip() | length }}", "1"),
        ("{{ ' a  b c '.split() }}{{ ' a  b c '.split(none, 1) }}", "['a', 'b', 'c']['a', 'b c ']"),
        (
            "{{ 'a,b,c'.split(',', 1) }}{{ 'a,b,c'.rsplit(',', maxsplit=1) }}",
            "['a', 'b,c']['a,b', 'c']",
        ),
        ("{{ ' a b  c '.rsplit(none, 1) }}", "[' a b', 'c']"),
        ("{{ 'a=b=c'.partition('=') }}{{ 'a'.rpartition('=') }}", "('a', '=', 'b=c')('', '', 'a')"),
        ("{{ 'abc'.removeprefix('a') }}{{ 'abc'.removesuffix('bc') }}", "bca"),
        (
            "{{ 'a\\r\\nb\\rc\\n'.splitlines() }}{{ 'a\\n\\nb'.splitlines(true) | length }}",
            "['a', 'b', 'c']3",
        ),
        (
            "{{ '-7'.zfill(4) }}{{ 'a'.center(4, '*') }}{{ 'a'.ljust(2) }}{{ 'a'.rjust(2) }}",
            "-007*a**a  a",
        ),
        (
            "{{ 'abcabc'.index('c') }}{{ [1, 2].index(2) }}{{ 'x7'.isalnum() }}{{ ''.isdigit() }}",
            "21TrueFalse",
        ),
        ("{{ d.get('k') }}{{ d.get('z', 5) }}{{ d.get('z') }}{{ d['items'] }}", "it's5None1"),
        (
            "{% for k, v in d.items() %}{{ k }},{% endfor %}{{ d.keys() | list }}",
            "items,k,f,t,['items', 'k', 'f', 't']",
        ),
        ("{{ 'hELLO wORLD'.title() }}{{ 'ab'.upper().startswith(('x', 'A')) }}", "Hello WorldTrue"),
        ("{{ '-'.join(['a', 'b']) }}{{ 'a'.join([]) }}", "a-b"),
    ] {
        assert_eq!(shown(source), text, "{source}");
    }
}

#[test]
fn what_is_not_reproduced_fails_instead_of_being_approximated() {
    for source in [
        "{{ d.items }}",
        "{{ 'x'.encode() }}",
        "{{ 'é'.isalpha() }}",
        "{{ 'É'.title() }}",
        "{{ ['—'] }}",
        "{{ m[1:] | tojson }}",
        "{{ '-'.join([1]) }}",
        "{{ missing.attribute }}",
        "{{ strftime_now('%c') }}",
        "{{ lipsum() }}",
    ] {
        assert_eq!(render(source).map_err(|refusal| refusal.name()), Err("template"), "{source}");
    }
}

#[test]
fn slices_index_like_lists_and_reversing_nothing_is_nothing() {
    assert_eq!(shown("{{ m[1:][0].role }}{{ m[1:] | length }}{{ m[:-1][-1].role }}"), "b2b");
    assert_eq!(shown("{% set x = m[1:] %}{{ x[0]['role'] }}{{ x[-1].role }}"), "bc");
    assert_eq!(
        shown("{% for x in m[ : : -1 ] %}{{ x.role }}{% endfor %}{{ 'abc'[::-1] }}"),
        "cbacba"
    );
    assert_eq!(shown("{{ empty[::-1] }}{{ blank[::-1] }}{{ '[::-1]' }}[::-1]"), "[][::-1][::-1]");
}

#[test]
fn blocks_are_trimmed_and_generation_is_a_scope() {
    assert_eq!(shown("a\n    {% if true %}\nb\n    {% endif %}\nc\n"), "a\nb\nc");
    assert_eq!(
        shown(
            "{% set x = 1 %}{%- generation -%} {% set x = 2 %}{{ x }} {%- endgeneration -%} {{ x }}"
        ),
        "21"
    );
    assert_eq!(
        shown("{% raw %}{% generation %}{{ x[::-1] }}{% endraw %}{# {% generation %} #}"),
        "{% generation %}{{ x[::-1] }}"
    );
    assert_eq!(
        shown(
            "{% for x in [1,2,3] %}{% if x == 2 %}{% continue %}{% endif %}{{ x }}{% break %}{% endfor %}"
        ),
        "1"
    );
    assert_eq!(shown("a\r\nb\rc"), "a\nb\nc");
}

#[test]
fn tests_hold_as_in_jinja() {
    assert_eq!(
        shown(
            "{{ s is sequence }}{{ d is sequence }}{{ s is iterable }}{{ true is number }}{{ true is integer }}{{ d is mapping }}{{ none is iterable }}"
        ),
        "TrueTrueTrueTrueFalseTrueFalse"
    );
}

#[test]
fn the_clock_is_the_callers() {
    assert_eq!(
        shown("{{ strftime_now('%d %b %Y|%-d %B %y|%A %a|%H:%M:%S %p %I|%j|%F %T|%e%%') }}"),
        "20 Nov 2026|20 November 26|Friday Fri|12:00:00 PM 12|324|2026-11-20 12:00:00|20%"
    );
    for (seconds, date) in [
        (0, "1970-01-01 001"),
        (951_782_400, "2000-02-29 060"),
        (4_107_542_399, "2100-02-28 059"),
        (4_107_542_400, "2100-03-01 060"),
        (1_735_689_599, "2024-12-31 366"),
    ] {
        assert_eq!(clock::strftime("%Y-%m-%d %j", seconds).unwrap(), date);
    }
}

#[test]
fn raising_and_endless_templates_are_told_apart_from_failing_ones() {
    let refusal = |source| render(source).unwrap_err();
    assert_eq!(refusal("{{ raise_exception('no ' + s) }}"), Refusal::TemplateRaised);
    let nested = "{% macro f() %}{{ raise_exception('x') }}{% endmacro %}{{ f() }}";
    assert_eq!(refusal(nested), Refusal::TemplateRaised);
    let long = "{% for a in range(9999) %}{% for b in range(9999) %}{% endfor %}{% endfor %}";
    assert_eq!(refusal(long), Refusal::TemplateLimit);
    let wide = "{% for a in range(99) %}{{ 'x' * 999999 }}{% endfor %}";
    assert!(matches!(refusal(wide), Refusal::TemplateLimit | Refusal::Template(_)));
    assert!(Template::new("{% if %}").is_err());
}

#[test]
fn sums_that_are_printed_are_joined_where_nothing_else_binds_less() {
    let joined = |tag: &str| source::join_sums(tag);
    assert_eq!(
        joined("a{{- 'x+' + m['a' + b] + f(c + d) | trim -}}b"),
        "a{{- ('x+')|warmpath_joined((m['a' + b]), (f(c + d) | trim)) -}}b"
    );
    assert_eq!(joined("{{a+b}}"), "{{ (a)|warmpath_joined((b)) }}");
    for same in [
        "{{ a }}",
        "{{ +a }}",
        "{{ a + b if c }}",
        "{{ a + b - c }}",
        "{{ a + b ~ c }}",
        "{{ a + b * c }}",
        "{{ a + b == c }}",
        "{{ not a + b }}",
        "{{ a + }}",
        "{{ a + b",
        "{% set a = b + c %}",
        "{# {{ a + b }} #}",
        "{% raw %}{{ a + b }}{% endraw %}",
        "{{ [a + b, c] }}",
        "{{ 'a + b' }}",
    ] {
        assert_eq!(joined(same), same);
    }
}

#[test]
fn joined_sums_print_what_the_sum_is() {
    for (source, expected) in [
        ("{{ 'a' + 'b' + 'c' }}", Some("abc")),
        ("{{ 1 + 2 }}", Some("3")),
        ("{{ 1 + 0.5 + 2 }}", Some("3.5")),
        ("{{ 'a' + nothing }}", None),
        ("{{ 'a' + 1 }}", None),
        ("{{- 'a' + ' b ' | trim + 'c' -}} d", Some("abcd")),
        ("{% set x %}{{ 'a' + 'b' }}{% endset %}{{ x + 'c' }}", Some("abc")),
    ] {
        let rendered = Template::new(source).unwrap().render(Vec::new(), 0);
        assert_eq!(rendered.ok().as_deref(), expected, "{source}");
    }
}
