//! Any bytes as what a peer says first: they are a hello that is written and read as just that again,
//! or none.

#![no_main]

use libfuzzer_sys::fuzz_target;
use steadfast_replicated::fuzzing::greeting;

fuzz_target!(|bytes: &[u8]| {
    let Some(written) = greeting(bytes) else { return };
    assert!(written.len() <= 2 * bytes.len() + 64, "{} of {}", written.len(), bytes.len());
    assert_eq!(greeting(&written), Some(written));
});
