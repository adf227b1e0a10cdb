#!/usr/bin/env bash
# Sets up, builds and runs every test. Can be run again at once: what is installed stays in .local/
# and target/.
#
#   tests/run.sh            everything, about 15 minutes on two cores the first time
#   tests/run.sh --long     with the soaks: many more rounds of kills and longer loads
#   tests/run.sh --quick    format, lints and cargo's tests only
#
# Every step runs, also after one has failed; the last line counts the tests of all steps. Exit 1 when
# anything failed, 3 when something cannot be installed.
set -euo pipefail

# shellcheck source=tests/setup.sh
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
cd "$root"

quick=
# Building three mutants takes minutes: every run only asks whether they still apply.
mutants=
for argument in "$@"; do
    case "$argument" in
        --long)
            export STENOGRAPH_KILL_CYCLES="${STENOGRAPH_KILL_CYCLES:-1000}"
            export STENOGRAPH_POWER_CUTS="${STENOGRAPH_POWER_CUTS:-100}"
            export STENOGRAPH_SOAK_S="${STENOGRAPH_SOAK_S:-600}"
            export PROPTEST_CASES="${PROPTEST_CASES:-20000}"
            export STENOGRAPH_FUZZ_S="${STENOGRAPH_FUZZ_S:-600}"
            export STENOGRAPH_FUZZ_SECONDS="${STENOGRAPH_FUZZ_SECONDS:-600}"
            export STENOGRAPH_TABLE="${STENOGRAPH_TABLE:-all}"
            export STENOGRAPH_SIM_RUNS="${STENOGRAPH_SIM_RUNS:-5000}"
            export STENOGRAPH_DESYNC_CASES="${STENOGRAPH_DESYNC_CASES:-30000}"
            export STENOGRAPH_AGREEMENT_TEXTS="${STENOGRAPH_AGREEMENT_TEXTS:-1000000}"
            export STENOGRAPH_EVENT_STREAMS="${STENOGRAPH_EVENT_STREAMS:-40000}"
            mutants=1
            ;;
        --quick) quick=1 ;;
        -h | --help)
            sed -n '2,11s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"
            exit 0
            ;;
        *)
            printf 'tests/run.sh: unknown argument %s (see --help)\n' "$argument" >&2
            exit 2
            ;;
    esac
done

begun=$SECONDS
log="$local_dir/run.log"
mkdir -p "$local_dir"
: > "$log"
failed=()

# step NAME COMMAND…: runs it, shows and keeps its output, remembers whether it failed.
step() {
    local name=$1 start=$SECONDS
    shift
    say "$name"
    if "$@" 2>&1 | tee -a "$log"; then
        say "$name: done in $((SECONDS - start)) s"
    else
        say "$name: FAILED after $((SECONDS - start)) s"
        failed+=("$name")
    fi
}

# failures LOG: what each failed test has said, at most 25 lines of each, and the lines of failed checks.
failures() {
    awk '
        /^---- .* ----$/ { left = 25 }
        /^failures:$|^test result: / { left = 0 }
        left > 0 { print; left-- }
        /^FAIL  |FAILED(,| after)|^error(\[|:)|^test .* FAILED$|^Diff in / { print }
    ' "$1"
}

say "setting up"
setup_build
setup_cargo_tests
setup_verifier
if [ -z "$quick" ]; then
    setup_tests
fi
say "set up in $((SECONDS - begun)) s"

export CARGO_TERM_COLOR="${CARGO_TERM_COLOR:-never}"

step "format" cargo fmt --check
step "lints" cargo clippy --quiet --locked --all-targets -- -D warnings
if [ -n "$mutants" ]; then
    step "mutants of the simulator" tests/mutants.sh
else
    step "mutants of the simulator apply" tests/mutants.sh --check
fi
if [ -z "$quick" ]; then
    # Before the tests of the crate, which leave the binary with everything in it.
    step "rules without libhyperscan" cargo test --locked --no-fail-fast --no-default-features \
        --features engine-rust --test guard_pack --test guard_mask
fi
step "tests of the crate" cargo test --locked --no-fail-fast
if [ -z "$quick" ]; then
    # Private items are documented too, so links to them are good.
    step "documents" env RUSTDOCFLAGS="-D warnings -A rustdoc::private_intra_doc_links" \
        cargo doc --quiet --locked --no-deps --document-private-items
    step "licences and bans" "$local_dir/cargo/bin/cargo-deny" --log-level warn --locked \
        --config .cargo-deny.toml check licenses bans sources
    # Each measurement once, short: it must run, its figures mean nothing here.
    step "benches, once each" env STENOGRAPH_RELAY_ROUNDS=1 STENOGRAPH_RELAY_MS=300 \
        cargo test --locked --no-fail-fast --benches
    step "fuzz, 10 s each" fuzz/run.sh "${STENOGRAPH_FUZZ_S:-10}"
    # The binary that cargo's tests have built.
    step "demo" target/debug/stenograph demo
    step "end to end with the MCP SDKs" env STENOGRAPH_BIN="$root/target/debug/stenograph" \
        python3 tests/sdk/run.py
    step "pages in a browser" env STENOGRAPH_BIN="$root/target/debug/stenograph" \
        python3 tests/sdk/browser.py
    step "conformance, direct and through the gateway" \
        env STENOGRAPH_BIN="$root/target/debug/stenograph" python3 tests/conformance/run.py
fi

# Cargo says "test result: ok. 3 passed; 0 failed; 0 ignored; …", the end-to-end run "3 passed, 0 failed".
counts=$(awk '
    /^test result: / { passed += $4; failed += $6; skipped += $8 }
    /^[0-9]+ passed, [0-9]+ failed$/ { passed += $1; failed += $3 }
    END { printf "%d passed, %d failed, %d skipped", passed, failed, skipped }
' "$log")

say "took $((SECONDS - begun)) s; output in .local/run.log"
if [ ${#failed[@]} -gt 0 ]; then
    # Last, because who reads the end of a long log asks what failed and why.
    failures "$log"
    for name in "${failed[@]}"; do
        say "failed: $name"
    done
fi
printf '%s\n' "$counts"
[ ${#failed[@]} -eq 0 ]
