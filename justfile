# Short names for common commands. `just --list` shows them.

# Run everything that continuous integration runs.
test:
    tests/run

# Test one crate, such as `just crate steadfast-memory`.
crate NAME *ARGS:
    cargo test -p {{NAME}} --all-features {{ARGS}}

fmt:
    cargo fmt --all

lint:
    cargo clippy --workspace --all-targets --all-features -- -D warnings

# Build the documentation as docs.rs shows it.
docs:
    cargo doc -p steadfast --all-features --no-deps --open

# Run each fuzz target for this number of seconds.
fuzz SECONDS="60":
    tests/fuzz/run {{SECONDS}}

# Run one seed of the replication simulator, with a trace.
simulate SEED:
    cargo run -p simulation -- --seed {{SEED}} --trace

# Run a drill with real processes under load, such as `just drill kill 10`.
drill NAME RUNS="1":
    cargo run --release -p drills -- {{NAME}} --runs {{RUNS}}

# Count the instructions of a request, beside other session layers.
bench:
    cd examples/benchmark && cargo bench

# Check everything that a release needs in addition to the tests.
release:
    tests/release
