//! Any bytes as the body of a frame: they are a message that is written and read as just that again,
//! and not much longer than they are, or none.

#![no_main]

use libfuzzer_sys::fuzz_target;
use steadfast_replicated::fuzzing::frame;

fuzz_target!(|body: &[u8]| {
    let Some(written) = frame(body) else { return };
    assert!(written.len() <= 16 * body.len() + 1_024, "{} of {}", written.len(), body.len());
    assert_eq!(frame(&written), Some(written));
});
