#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| roentgen_fuzz::pickle(data));
