#!/usr/bin/env bash
# Makes bench/.peers and bench/.peers/candles: the environments of the programs bench/run.py is measured against.
# Installs exactly requirements/bench-peers.txt and bench-candles.txt (hash-locked); a second call with the same
# locks does nothing.
set -euo pipefail

here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
python="${PYTHON:-python3}"

if ! "$python" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))'; then
    echo "install_peers: the locks are made for Python 3.11; set PYTHON=/path/to/python3.11" >&2
    exit 1
fi

# install NAME ENVIRONMENT: an environment with exactly requirements/NAME.txt
install() {
    local lock="$here/../requirements/$1.txt" env="$here/$2"
    if [[ -f "$env/lock" ]] && cmp -s "$lock" "$env/lock"; then
        echo "bench/$2 is up to date"
        return
    fi
    rm -rf "$env"
    "$python" -m venv "$env"
    "$env/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r "$lock"
    cp "$lock" "$env/lock"
    echo "bench/$2 is ready: $("$env/bin/python" -m pip list --disable-pip-version-check | grep -cE '^[A-Za-z]') packages"
}

install bench-peers .peers
install bench-candles .peers/candles
