# shellcheck shell=bash
# What tests/run.sh and tuning/demo.sh share: installing what is missing on a Debian machine that has
# a Rust toolchain and nothing else. Sourced, not run. Everything that is not Debian's goes into
# .local/ at the root of the repository.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
local_dir="$root/.local"

say() { printf '==> %s\n' "$*"; }

die() {
    printf 'setup: %s\n' "$*" >&2
    exit 3
}

# Debian packages, installed only when one is missing: needs root or sudo then.
debian_packages() {
    local missing=() package
    for package in "$@"; do
        # "install ok installed" is dpkg's word for a package that is there whole.
        if [ "$(dpkg-query -W -f '${db:Status-Abbrev}' "$package" 2> /dev/null)" != "ii " ]; then
            missing+=("$package")
        fi
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    command -v apt-get > /dev/null || die "not a Debian system; install: ${missing[*]}"
    say "installing Debian packages: ${missing[*]}"
    local as_root=()
    if [ "$(id -u)" != 0 ]; then
        command -v sudo > /dev/null || die "run as root or install sudo: ${missing[*]} are missing"
        as_root=(sudo)
    fi
    mkdir -p "$local_dir"
    # RUNLEVEL=1: a package that brings a service (nginx) does not start it. force-unsafe-io: no fsync
    # for each file; hundreds of small packages take a third of the time.
    if ! {
        "${as_root[@]}" apt-get update -qq &&
            "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get install -y -qq \
                -o Dpkg::Options::=--force-unsafe-io --no-install-recommends "${missing[@]}"
    } > "$local_dir/apt.log" 2>&1; then
        tail -n 20 "$local_dir/apt.log" >&2
        die "Debian packages could not be installed, see .local/apt.log: ${missing[*]}"
    fi
}

# What cargo needs before it is asked: the scanner's library with its headers, the tool that finds
# it, a linker and a C compiler for the crates that build C (zstd, aws-lc, mimalloc).
setup_build() {
    debian_packages libhyperscan-dev pkg-config gcc g++ libc6-dev make ca-certificates
    command -v cargo > /dev/null || die "cargo is missing: install a Rust toolchain (1.89 or newer)"
}

# What cargo's own tests need besides: python3 for system calls that no crate offers without unsafe code,
# two file systems to cut the power of, the tool whose files key files are, clients that speak TLS, a proxy in
# front, Node, whose parsers read what the gateway lets through.
setup_cargo_tests() {
    local wanted=(python3 e2fsprogs xfsprogs age openssl curl haproxy)
    # Any Node and npm will do.
    command -v npm > /dev/null || wanted+=(npm nodejs)
    debian_packages "${wanted[@]}"
    setup_readers
}

# What the SDKs read event streams with, for tests/event_streams.rs: the versions that tests/sdk/ pins.
setup_readers() {
    local sdk="$root/tests/sdk" readers="$local_dir/readers" wanted
    # Older releases of httpx-sse end lines as Python's str.splitlines does; people still run them.
    wanted=$(printf 'splits httpx-sse==0.4.1\n' &&
        grep -hE '^(httpx|httpx-sse|httpx2)==' "$sdk"/requirements-v?.txt &&
        sed -n '/"node_modules\/eventsource-parser": {/,/version/s/.*"version": "\(.*\)".*/eventsource-parser@\1/p' \
            "$sdk/package-lock.json")
    [ "$(cat "$readers/wanted" 2> /dev/null)" = "$wanted" ] && return 0
    python3 -c 'import venv, ensurepip' 2> /dev/null || debian_packages python3 python3-venv
    say "installing the SDKs' readers of event streams"
    rm -rf "$readers"
    mkdir -p "$readers"
    python3 -m venv "$readers/python"
    grep -v ' ' <<< "$wanted" | grep = | "$readers/python/bin/pip" install --quiet \
        --disable-pip-version-check -r /dev/stdin
    sed -n 's/^splits //p' <<< "$wanted" | "$readers/python/bin/pip" install --quiet \
        --disable-pip-version-check --no-deps --target "$readers/splits" -r /dev/stdin
    # A package.json of its own: npm would go up to that of a directory above.
    printf '{"private":true}\n' > "$readers/package.json"
    grep @ <<< "$wanted" | (cd "$readers" &&
        xargs npm install --ignore-scripts --no-audit --no-fund --loglevel=error > /dev/null)
    printf '%s\n' "$wanted" > "$readers/wanted"
}

# The checker of licences and bans, built once for each version.
CARGO_DENY_VERSION=0.20.2
setup_cargo_deny() {
    [ "$("$local_dir/cargo/bin/cargo-deny" --version 2> /dev/null)" = "cargo-deny $CARGO_DENY_VERSION" ] &&
        return 0
    say "building cargo-deny $CARGO_DENY_VERSION into .local/ (about a minute)"
    # Unoptimised: it runs for a second, and builds in a third of the time.
    cargo install --quiet cargo-deny --version "$CARGO_DENY_VERSION" --locked --debug \
        --no-default-features --root "$local_dir/cargo" --target-dir "$local_dir/cargo/target"
    rm -rf "$local_dir/cargo/target"
}

# The tool that builds the fuzz targets, built once for each version.
CARGO_FUZZ_VERSION=0.13.2
setup_cargo_fuzz() {
    [ "$("$local_dir/cargo/bin/cargo-fuzz" --version 2> /dev/null)" = "cargo-fuzz $CARGO_FUZZ_VERSION" ] &&
        return 0
    say "building cargo-fuzz $CARGO_FUZZ_VERSION into .local/ (about half a minute)"
    cargo install --quiet cargo-fuzz --version "$CARGO_FUZZ_VERSION" --locked --debug \
        --root "$local_dir/cargo" --target-dir "$local_dir/cargo/target"
    rm -rf "$local_dir/cargo/target"
}

# The Python that tests/record_second_verifier.rs runs, with what tests/verifier/ imports.
setup_verifier() {
    local wanted="$root/tests/verifier/requirements.txt" stamp="$local_dir/verifier/requirements.txt"
    cmp -s "$wanted" "$stamp" && return 0
    # A Python without ensurepip has `venv` but cannot make an environment with pip in it.
    python3 -c 'import venv, ensurepip' 2> /dev/null || debian_packages python3 python3-venv
    say "installing the second verifier's Python packages"
    rm -rf "$local_dir/verifier"
    mkdir -p "$local_dir"
    python3 -m venv "$local_dir/verifier"
    "$local_dir/verifier/bin/pip" install --quiet --disable-pip-version-check -r "$wanted"
    cp "$wanted" "$stamp"
}

# What only the tests need: Python for the end-to-end runs, nginx to compare with, a browser, Node and the
# SDKs.
setup_tests() {
    local wanted=(python3 python3-venv nginx-light)
    # Any npm will do: the Node that runs the SDKs comes through it.
    command -v npm > /dev/null || wanted+=(npm nodejs)
    # Any Chromium will do, as tests/sdk/browser.py finds it.
    command -v chromium chromium-browser google-chrome > /dev/null || wanted+=(chromium)
    debian_packages "${wanted[@]}"
    setup_cargo_deny
    if [ -f "$root/tests/sdk/setup.sh" ]; then
        sh "$root/tests/sdk/setup.sh"
    fi
}
