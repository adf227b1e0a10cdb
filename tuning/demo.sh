#!/usr/bin/env bash
# Sets up, builds and runs the demo: the whole story on loopback, on one screen.
#
#   tuning/demo.sh           run it; exit 0 when everything was as told
#   tuning/demo.sh --hold    keep it running; prints a URL and a token for a client of your own
set -euo pipefail

# shellcheck source=tests/setup.sh
source "$(dirname "${BASH_SOURCE[0]}")/../tests/setup.sh"
cd "$root"

setup_build
say "building (a few minutes the first time)"
cargo build --quiet --locked --release
exec target/release/stenograph demo "$@"
