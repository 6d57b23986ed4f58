//! Any bytes as what a peer says first: they are a hello that is written and read as just that again,
//! or none.

#![no_main]

use libfuzzer_sys::fuzz_target;
use steadfast_replicated::fuzzing::hello;

fuzz_target!(|bytes: &[u8]| {
    let Some(written) = hello(bytes) else { return };
    assert!(written.len() <= bytes.len());
    assert_eq!(hello(&written), Some(written));
});
