use super::*;
use crate::json;

fn render(source: &str, variables: &str) -> Result<String, Refusal> {
    let Ok(json::Json::Dict(variables)) = json::read(variables) else { panic!("{variables}") };
    let template = Template::new(source).unwrap();
    template.render(value::from_dict(&variables).collect(), 1_763_640_000)
}

fn shown(source: &str) -> String {
    render(
        source,
        r#"{"m":[{"role":"a","n":1},{"role":"b","n":2},{"role":"c"}],"s":" a-b ","e":[],
        "z":"","d":{"items":1,"k":"it's","f":1e-7,"t":[true,null]}}"#,
    )
    .unwrap()
}

#[test]
fn slices_of_lists_are_indexed_and_measured_like_lists() {
    assert_eq!(shown("{{ m[1:][0].role }}{{ m[1:]|length }}{{ m[:-1][-1].role }}"), "b2b");
    assert_eq!(shown("{% set x = m[1:] %}{{ x[0]['role'] }}{{ x[-1].role }}"), "bc");
}

#[test]
fn probe() {
    for source in [
        "{{ m[::-1][0].role }}",
        "{{ e[::-1] }}",
        "{{ z[::-1] }}",
        "{% for x in m[::-1] %}{{ x.role }}{% endfor %}",
    ] {
        println!("{source}: {:?}", Template::new(source).map(|t| t.render(vec![], 0)).err());
    }
}
