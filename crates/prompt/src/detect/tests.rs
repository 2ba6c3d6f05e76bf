use super::*;

#[test]
fn loops_over_content_take_parts() {
    for (source, format) in [
        ("{% for m in messages %}{{ m.content }}{% endfor %}", ContentFormat::String),
        (
            "{% for m in messages %}{% for c in m.content %}{{ c.text }}{% endfor %}{% endfor %}",
            ContentFormat::Openai,
        ),
        (
            "{% for m in messages[1:] %}{% for c in m['content'] | list %}{% endfor %}{% endfor %}",
            ContentFormat::Openai,
        ),
        (
            "{% set x = messages %}{% set y = x | list %}{% for m in y %}{% for c in m.content %}{% endfor %}{% endfor %}",
            ContentFormat::Openai,
        ),
        ("{% for content in contents %}{% endfor %}", ContentFormat::String),
        ("{% for item in content %}{% endfor %}", ContentFormat::Openai),
        (
            "{% macro f(content) %}{% for c in content %}{% endfor %}{% endmacro %}",
            ContentFormat::String,
        ),
        (
            "{% macro f(x) %}{% for c in x %}{% endfor %}{% endmacro %}{% for m in messages %}{{ f(m.content) }}{% endfor %}",
            ContentFormat::Openai,
        ),
        (
            "{% macro f(a, x) %}{% for c in x %}{% endfor %}{% endmacro %}{% for m in messages %}{{ f(1, x=m.content) }}{% endfor %}",
            ContentFormat::Openai,
        ),
        (
            "{% macro f(x) %}{% for c in x %}{% endfor %}{% endmacro %}{% for m in messages %}{{ f(m.role) }}{% endfor %}",
            ContentFormat::String,
        ),
        (
            "{% for m in messages %}{% if m.content is string %}{% else %}{% for c in m.content %}{% endfor %}{% endif %}{% endfor %}",
            ContentFormat::Openai,
        ),
        // The engine's analysis gives up on targets that are no plain names.
        (
            "{% for m in messages %}{% for a, b in m.content %}{% endfor %}{% endfor %}",
            ContentFormat::String,
        ),
        (
            "{% set ns = namespace() %}{% set ns.x = messages %}{% for m in messages %}{% for c in m.content %}{% endfor %}{% endfor %}",
            ContentFormat::String,
        ),
        (
            "{% generation %}{% for item in content %}{% endfor %}{% endgeneration %}",
            ContentFormat::Openai,
        ),
    ] {
        assert_eq!(content_format(source), Ok(format), "{source}");
    }
}

#[test]
fn slices_that_may_step_backwards_are_refused() {
    for source in
        ["{{ x[::-2] }}", "{{ x[5:1:-1] }}", "{{ x[::step] }}", "{% if x[::-3][1] %}{% endif %}"]
    {
        assert!(content_format(source).is_err(), "{source}");
    }
    for source in ["{{ x[::-1] }}", "{{ x[1:2] }}", "{{ x[::2] }}"] {
        assert!(content_format(source).is_ok(), "{source}");
    }
}
