# Recipes for people; `just check` is exactly what continuous integration runs. Without just, run the line itself.

default:
    @just --list

# Everything that must hold before a change is merged.
check:
    tools/check

# Every test, and the examples in the documentation.
test *ARGS:
    PALYRA_TEST_ARGS="{{ARGS}}" tools/test

# Measure beside SQLite, redb and a raw file; for example `just bench all --write --date 2026-11-24`.
bench *ARGS="all":
    tools/bench/run {{ARGS}}

# Fuzz one target, or all, for some seconds each (needs a nightly compiler).
fuzz TARGET="all" SECONDS="60":
    fuzz/run {{TARGET}} {{SECONDS}}

# The library's documentation.
docs:
    RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps --open

# Watch the product do its work on a temporary ledger.
tour:
    cargo run --release --locked -- tour

# Make the seed inputs of the fuzz corpora anew, after a change of the format.
seeds:
    cargo test --locked --test fuzz_corpora -- --ignored write_seeds
