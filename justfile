# Short names for the habits. `just --list` shows them.

# Everything that continuous integration runs.
test:
    tests/run

# One crate, such as `just crate steadfast-memory`.
crate NAME *ARGS:
    cargo test -p {{NAME}} --all-features {{ARGS}}

fmt:
    cargo fmt --all

lint:
    cargo clippy --workspace --all-targets --all-features -- -D warnings

# The documentation as docs.rs shows it.
docs:
    cargo doc -p steadfast --all-features --no-deps --open

# Each fuzz target, for this many seconds.
fuzz SECONDS="60":
    tests/fuzz/run {{SECONDS}}

# One seed of the replication simulator, with what happened.
simulate SEED:
    cargo run -p simulation -- --seed {{SEED}} --trace

# Real processes are killed under load, so many times, such as `just drill kill 10`.
drill NAME RUNS="1":
    cargo run --release -p drills -- {{NAME}} --runs {{RUNS}}

# Instructions of a request, beside other session layers.
bench:
    cd examples/benchmark && cargo bench

# What a release needs beside the tests.
release:
    tests/release
