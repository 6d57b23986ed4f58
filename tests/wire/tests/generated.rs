//! Checks that the committed code belongs to the definition.

#[test]
fn the_committed_code_is_what_is_generated() {
    let committed = std::fs::read_to_string(wire::committed()).expect("it is committed");
    let is_current = committed == wire::generate();
    assert!(is_current, "run `cargo run -p wire`, and commit what it changes");
}
