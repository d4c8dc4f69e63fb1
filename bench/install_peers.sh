#!/usr/bin/env bash
# Makes bench/.peers: the environment of the programs bench/run.py is measured against.
# Installs exactly requirements/bench-peers.txt (hash-locked); a second call with the same lock does nothing.
set -euo pipefail

here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
lock="$here/../requirements/bench-peers.txt"
env="$here/.peers"
python="${PYTHON:-python3}"

if ! "$python" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))'; then
    echo "install_peers: the lock is made for Python 3.11; set PYTHON=/path/to/python3.11" >&2
    exit 1
fi
if [[ -f "$env/lock" ]] && cmp -s "$lock" "$env/lock"; then
    echo "bench/.peers is up to date"
    exit 0
fi
rm -rf "$env"
"$python" -m venv "$env"
"$env/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r "$lock"
cp "$lock" "$env/lock"
echo "bench/.peers is ready: $("$env/bin/python" -m pip list --disable-pip-version-check | grep -cE '^[A-Za-z]') packages"
