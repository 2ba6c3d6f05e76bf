/*!
What must hold for any bytes that come from outside.

Each check takes arbitrary bytes and panics where something does not hold. The
fuzzers of `fuzz/` search for such bytes without end; this crate's own test replays
the committed seeds and some thousands of mutations of them, so that everybody's
tests cover the same ground without a nightly compiler.

Checks are properties, not expectations: two ways to the same result agree, a
result stays within its bounds, an index adds up. What engines make of particular
bodies is tested beside the code.
*/

mod body;
mod bytes;
mod events;
mod index;
mod polled;
mod protocol;
mod snapshot;
mod table;
mod template;

/// One property of arbitrary bytes.
#[derive(Clone, Copy, Debug)]
pub struct Check {
    /// The fuzz target's name, and its folder of seeds.
    pub name: &'static str,
    /// Panics where the property does not hold.
    pub run: fn(&[u8]),
}

/// Every check.
pub const CHECKS: [Check; 8] = [
    Check { name: "body", run: body::check },
    Check { name: "template", run: template::check },
    Check { name: "table", run: table::check },
    Check { name: "index", run: index::check },
    Check { name: "snapshot", run: snapshot::check },
    Check { name: "events", run: events::check },
    Check { name: "polled", run: polled::check },
    Check { name: "protocol", run: protocol::check },
];

/// Runs the check of this name.
///
/// # Panics
/// Where the property does not hold, or there is no such check.
pub fn check(name: &str, data: &[u8]) {
    let check = CHECKS.iter().find(|check| check.name == name);
    (check.expect("a check of this name").run)(data);
}
