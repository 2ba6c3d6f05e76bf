//! The state machine, natively.
//!
//! One test for all scenarios: the test model's table is compiled and proven
//! once a process, and test runners may give each test its own.

mod host;
mod scenarios;

use host::Native;

macro_rules! natively {
    ($($file:ident: $name:ident,)*) => {
        #[test]
        fn the_state_machine_goes_through_every_scenario() {
            $(
                println!("{}", stringify!($name));
                scenarios::$file::$name(Native::start);
            )*
        }
    };
}

scenarios::every_scenario!(natively);
