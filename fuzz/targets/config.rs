#![no_main]

#[allow(dead_code, reason = "each target uses one of its functions")]
#[path = "../../tests/properties/oracle.rs"]
mod oracle;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| oracle::config(bytes));
