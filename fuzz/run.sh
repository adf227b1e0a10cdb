#!/usr/bin/env bash
# Builds the fuzz targets and runs them, each for some seconds, on the toolchain at hand: the counters that
# libFuzzer wants are an option of the stable compiler.
#
#   fuzz/run.sh                 every target, 60 s each
#   fuzz/run.sh 3600 head sse   an hour for each of these
#
# An input that fails is kept in fuzz/artifacts/TARGET/ and shown as one line. Give it a name that says what
# went wrong and put it into fuzz/seeds/TARGET/: from then on tests/fuzz_seeds.rs asks it in each run of the
# tests. What the fuzzer found to be of use stays in fuzz/corpus/ and is where the next run goes on.
# Exit 1 when an input failed, 3 when something cannot be installed.
set -euo pipefail

# shellcheck source=tests/setup.sh
source "$(dirname "${BASH_SOURCE[0]}")/../tests/setup.sh"
cd "$root"

seconds=60
case "${1-}" in
    -h | --help)
        sed -n '2,12s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"
        exit 0
        ;;
    [0-9]*)
        seconds=$1
        shift
        ;;
esac
known=$(for file in fuzz/fuzz_targets/*.rs; do basename "$file" .rs; done)
targets=("$@")
[ ${#targets[@]} -gt 0 ] || mapfile -t targets <<< "$known"
for target in "${targets[@]}"; do
    if [ ! -e "fuzz/fuzz_targets/$target.rs" ]; then
        printf 'fuzz/run.sh: no target %s; there are: %s\n' "$target" "$(echo $known)" >&2
        exit 2
    fi
done

setup_build
setup_cargo_fuzz
debian_packages python3
export PATH="$local_dir/cargo/bin:$PATH"

# The versions that the crate is tested with.
cp Cargo.lock fuzz/Cargo.lock
begun=$SECONDS
# Without a sanitizer: there is next to no unsafe code to watch, and only then stable will do.
cargo fuzz build --sanitizer none
say "built in $((SECONDS - begun)) s"
python3 fuzz/seeds.py --out fuzz/corpus > /dev/null

host=$(rustc -vV | sed -n 's/^host: //p')
failed=()
for target in "${targets[@]}"; do
    mkdir -p "fuzz/corpus/$target" "fuzz/seeds/$target" "fuzz/artifacts/$target"
    # Bounds: 768 MiB holds the rules and many records, and no bomb; an input that takes 20 s hangs.
    if output=$("fuzz/target/$host/release/$target" "fuzz/corpus/$target" "fuzz/seeds/$target" \
        -artifact_prefix="fuzz/artifacts/$target/" -max_total_time="$seconds" -max_len=8192 \
        -rss_limit_mb=768 -timeout=20 -print_final_stats=1 -close_fd_mask=1 2>&1); then
        say "$target: $(awk '/number_of_executed_units/ { n = $2 } /peak_rss_mb/ { m = $2 }
            / cov: / { for (i = 1; i < NF; i++) if ($i == "cov:") c = $(i + 1) }
            END { print n, "inputs,", c, "branches,", m, "MiB at most" }' <<< "$output")"
    else
        failed+=("$target")
        tail -n 60 <<< "$output"
        say "$target: FAILED, see above and fuzz/artifacts/$target/"
    fi
    rmdir "fuzz/artifacts/$target" "fuzz/seeds/$target" 2> /dev/null || true
done
echo "$((${#targets[@]} - ${#failed[@]})) passed, ${#failed[@]} failed"
[ ${#failed[@]} -eq 0 ]
