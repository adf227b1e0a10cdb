#!/usr/bin/env bash
# The simulator must fail where the promise is broken: applies each patch of tests/mutants to a copy of
# the tree below target/, builds the simulator there and expects it to fail in the way the patch names.
#
#   tests/mutants.sh              every mutant, about a minute each on two cores
#   tests/mutants.sh NAME…        these only, without .patch
#   tests/mutants.sh --check      only whether every patch still applies; builds nothing
#
# Exit 1 when a mutant lives, or a patch does not apply or does not build.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"
check=
names=()
for argument in "$@"; do
    case "$argument" in
        --check) check=1 ;;
        -h | --help)
            sed -n '2,9s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"
            exit 0
            ;;
        -*)
            printf 'tests/mutants.sh: unknown argument %s (see --help)\n' "$argument" >&2
            exit 2
            ;;
        *) names+=("$argument") ;;
    esac
done
if [ ${#names[@]} -eq 0 ]; then
    for patch in tests/mutants/*.patch; do
        names+=("$(basename "$patch" .patch)")
    done
fi

target=${CARGO_TARGET_DIR:-$root/target}
copy=$target/mutants/tree
build=$target/mutants/build
output=$target/mutants/output
mkdir -p "$target/mutants"
lives=0

# prefill: what the libraries of others were built to is taken over, so that only this crate is built.
# Copied, not linked, where cargo writes into a file that is there.
prefill() {
    local from=$target/debug to=$build/debug
    [ -d "$to" ] || [ ! -d "$from/.fingerprint" ] && return 0
    mkdir -p "$to/deps"
    cp -a "$from/.fingerprint" "$to/"
    cp -al "$from/build" "$to/"
    rm -rf "$to"/.fingerprint/stenograph-* "$to"/build/stenograph-*
    find "$from/deps" -maxdepth 1 -name '*.d' -exec cp -a -t "$to/deps" {} +
    find "$from/deps" -maxdepth 1 -name 'lib*' ! -name 'libstenograph*' ! -name '*.d' \
        -exec cp -al -t "$to/deps" {} +
}

# fresh: the tree as it stands. Unchanged files keep their times, so that little is built anew.
fresh() {
    rm -rf "${copy:?}"
    mkdir -p "$copy"
    git ls-files -z -c -o --exclude-standard | xargs -0 cp -a --parents -t "$copy"
}

for name in "${names[@]}"; do
    patch=tests/mutants/$name.patch
    expected=$(sed -n 's/^Expect: //p' "$patch")
    if [ -n "$check" ]; then
        if patch --dry-run -s -p1 -F2 < "$patch" > "$output" 2>&1; then
            printf '%s: applies\n' "$name"
        else
            printf '%s: DOES NOT APPLY; make it anew for the code as it is\n' "$name"
            cat "$output"
            lives=1
        fi
        continue
    fi
    prefill
    fresh
    start=$SECONDS
    if ! (cd "$copy" && patch -s -p1 -F2) < "$patch" > "$output" 2>&1; then
        printf '%s: DOES NOT APPLY; make it anew for the code as it is\n' "$name"
        cat "$output"
        lives=1
    elif (cd "$copy" && CARGO_TARGET_DIR="$build" \
        cargo test --test simulate every_seed > "$output" 2>&1); then
        printf '%s: LIVES: no run of the simulator sees it\n' "$name"
        lives=1
    elif grep -Eq "$expected" "$output"; then
        printf '%s: killed in %s s: %s\n' "$name" $((SECONDS - start)) \
            "$(grep -Eo "$expected" "$output" | head -n 1)"
    else
        printf '%s: fails in another way than "%s"\n' "$name" "$expected"
        grep -v '^ *[0-9]*: \|^ *at ' "$output" | tail -n 30
        lives=1
    fi
done
exit "$lives"
