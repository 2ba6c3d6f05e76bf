#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| warmpath_fuzz_checks::check("polled", data));
