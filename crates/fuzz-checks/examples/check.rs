//! Runs one check on files: `check NAME FILE…`, to look at what a fuzzer found.

fn main() {
    let mut arguments = std::env::args().skip(1);
    let name = arguments.next().expect("usage: check NAME FILE…");
    for path in arguments {
        eprintln!("{path}");
        warmpath_fuzz_checks::check(&name, &std::fs::read(&path).expect("a file"));
    }
}
