//! The state machine, natively.

mod host;
mod scenarios;

use host::Native;

macro_rules! natively {
    ($($file:ident: $name:ident,)*) => {
        $(#[test] fn $name() { scenarios::$file::$name(Native::start) })*
    };
}

scenarios::every_scenario!(natively);
