//! The filters, tests and functions that Jinja itself brings.
//!
//! Named one by one: minijinja's own set has names that Jinja does not know, under
//! which a template would render here and fail in the engine, and some that print
//! otherwise (`pprint`, `attr`). What is not named is not linked either; the whole set
//! is a tenth of the filter's module.

use minijinja::{Environment, filters, functions, tests};

/// Adds them all.
pub(super) fn add(environment: &mut Environment<'_>) {
    add_text_filters(environment);
    add_list_filters(environment);
    add_number_filters(environment);
    add_tests(environment);
    add_comparisons(environment);
    environment.add_function("dict", functions::dict);
    environment.add_function("namespace", functions::namespace);
    environment.add_function("range", functions::range);
}

fn add_text_filters(environment: &mut Environment<'_>) {
    environment.add_filter("capitalize", filters::capitalize);
    environment.add_filter("e", filters::escape);
    environment.add_filter("escape", filters::escape);
    environment.add_filter("format", filters::format);
    environment.add_filter("indent", filters::indent);
    environment.add_filter("lower", filters::lower);
    environment.add_filter("replace", filters::replace);
    environment.add_filter("safe", filters::safe);
    environment.add_filter("title", filters::title);
    environment.add_filter("upper", filters::upper);
}

fn add_list_filters(environment: &mut Environment<'_>) {
    environment.add_filter("batch", filters::batch);
    environment.add_filter("count", filters::length);
    environment.add_filter("d", filters::default);
    environment.add_filter("default", filters::default);
    environment.add_filter("dictsort", filters::dictsort);
    environment.add_filter("first", filters::first);
    environment.add_filter("groupby", filters::groupby);
    environment.add_filter("items", filters::items);
    environment.add_filter("last", filters::last);
    environment.add_filter("length", filters::length);
    environment.add_filter("list", filters::list);
    environment.add_filter("map", filters::map);
    environment.add_filter("reject", filters::reject);
    environment.add_filter("rejectattr", filters::rejectattr);
    environment.add_filter("reverse", filters::reverse);
    environment.add_filter("select", filters::select);
    environment.add_filter("selectattr", filters::selectattr);
    environment.add_filter("slice", filters::slice);
    environment.add_filter("sort", filters::sort);
    environment.add_filter("unique", filters::unique);
}

fn add_number_filters(environment: &mut Environment<'_>) {
    environment.add_filter("abs", filters::abs);
    environment.add_filter("float", filters::float);
    environment.add_filter("int", filters::int);
    environment.add_filter("max", filters::max);
    environment.add_filter("min", filters::min);
    environment.add_filter("round", filters::round);
    environment.add_filter("sum", filters::sum);
}

fn add_tests(environment: &mut Environment<'_>) {
    environment.add_test("boolean", tests::is_boolean);
    environment.add_test("defined", tests::is_defined);
    environment.add_test("divisibleby", tests::is_divisibleby);
    environment.add_test("escaped", tests::is_safe);
    environment.add_test("even", tests::is_even);
    environment.add_test("false", tests::is_false);
    environment.add_test("filter", tests::is_filter);
    environment.add_test("float", tests::is_float);
    environment.add_test("in", tests::is_in);
    environment.add_test("integer", tests::is_integer);
    environment.add_test("lower", tests::is_lower);
    environment.add_test("mapping", tests::is_mapping);
    environment.add_test("none", tests::is_none);
    environment.add_test("odd", tests::is_odd);
    environment.add_test("sameas", tests::is_sameas);
    environment.add_test("string", tests::is_string);
    environment.add_test("test", tests::is_test);
    environment.add_test("true", tests::is_true);
    environment.add_test("undefined", tests::is_undefined);
    environment.add_test("upper", tests::is_upper);
}

fn add_comparisons(environment: &mut Environment<'_>) {
    for name in ["==", "eq", "equalto"] {
        environment.add_test(name, tests::is_eq);
    }
    for name in ["!=", "ne"] {
        environment.add_test(name, tests::is_ne);
    }
    for name in ["<", "lt", "lessthan"] {
        environment.add_test(name, tests::is_lt);
    }
    for name in ["<=", "le"] {
        environment.add_test(name, tests::is_le);
    }
    for name in [">", "gt", "greaterthan"] {
        environment.add_test(name, tests::is_gt);
    }
    for name in [">=", "ge"] {
        environment.add_test(name, tests::is_ge);
    }
}
