use super::*;

fn dict(text: &str) -> Dict {
    match read(text) {
        Ok(Json::Dict(dict)) => dict,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_last_of_two_equal_keys_wins_at_the_first_ones_place() {
    let dict = dict(r#"{"a":1,"b":2,"a":3}"#);
    assert_eq!(dict.iter().collect::<Vec<_>>(), [("a", &Json::Int(3)), ("b", &Json::Int(2))]);
}

#[test]
fn the_last_of_two_equal_keys_wins_among_many_too() {
    let many: Vec<String> = (0..40).map(|key| format!("\"k{}\":{key}", key % 20)).collect();
    let dict = dict(&format!("{{{}}}", many.join(",")));
    assert_eq!(dict.iter().count(), 20);
    assert_eq!(dict.get("k0"), Some(&Json::Int(20)));
    assert_eq!(dict.iter().next().map(|(key, _)| key.to_owned()).as_deref(), Some("k0"));
}

#[test]
fn integers_stay_integers_and_floats_are_the_nearest_double() {
    let cases = [
        ("1", Json::Int(1)),
        ("-0", Json::Int(0)),
        ("1000000000000000000000000000000", Json::Int(10i128.pow(30))),
        ("1.0", Json::Float(1.0)),
        ("1e2", Json::Float(100.0)),
        ("-0.0", Json::Float(-0.0)),
        ("0.1", Json::Float(0.1)),
        ("5e-324", Json::Float(5e-324)),
        (" 1.7976931348623157e308 ", Json::Float(f64::MAX)),
    ];
    for (text, value) in cases {
        assert_eq!(read(text), Ok(value), "{text}");
    }
}

#[test]
fn what_python_reads_and_this_cannot_hold_is_told_apart_from_what_is_no_json() {
    for text in [
        "NaN",
        "[Infinity]",
        "-Infinity",
        "1e999",
        r#""\ud800""#,
        r#""\ud800x""#,
        r#""\udc00""#,
        r#""\ud800\u0041""#,
    ] {
        assert_eq!(read(text), Err(JsonError::Unrepresentable), "{text}");
    }
    let huge = "9".repeat(60);
    assert_eq!(read(&huge), Err(JsonError::Unrepresentable));
    for text in [
        "",
        " ",
        "{",
        "[1,]",
        "{\"a\":1,}",
        "{a:1}",
        "'a'",
        "01",
        "1.",
        ".5",
        "+1",
        "1e",
        "\"\n\"",
        "\"\u{1}\"",
        r#""\x41""#,
        r#""\u12g4""#,
        r#""\u12"#,
        "nul",
        "\u{feff}1",
        "1 2",
        "\u{a0}1",
        "--1",
        "-",
    ] {
        assert_eq!(read(text), Err(JsonError::Syntax), "{text:?}");
    }
}

#[test]
fn escapes_and_surrogate_pairs_are_read() {
    assert_eq!(
        read(r#""a\n\t\r\b\f\/\\\"\u00e9\ud83d\ude00é""#),
        Ok(Json::Str("a\n\t\r\u{8}\u{c}/\\\"é😀é".into()))
    );
}

#[test]
fn nesting_is_bounded() {
    let deep = |n: usize| format!("{}{}", "[".repeat(n), "]".repeat(n));
    assert!(read(&deep(100)).is_ok());
    assert_eq!(read(&deep(100_000)), Err(JsonError::Depth));
}
