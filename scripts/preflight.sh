#!/usr/bin/env bash
# Says, all at once, what this machine lacks for `make setup`, and how to get it.
set -uo pipefail

problems=()
missing() { ! command -v "$1" >/dev/null 2>&1; }

if missing python3; then
  problems+=("python3 is missing: apt-get install python3 python3-venv")
elif ! python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
  problems+=("python3 is $(python3 -V 2>&1 | cut -d' ' -f2), 3.11 or newer is needed")
elif ! python3 -c 'import venv, ensurepip' 2>/dev/null; then
  problems+=("python3 cannot make environments: apt-get install python3-venv")
fi

if missing node; then
  problems+=("node is missing: install Node.js 20 or newer")
elif [ "$(node -p 'parseInt(process.versions.node)')" -lt 20 ]; then
  problems+=("node is $(node -v), 20 or newer is needed")
fi
missing npm && problems+=("npm is missing: it comes with Node.js, or apt-get install npm")

missing ps && problems+=("ps is missing (PM2 starts bots twice without it): apt-get install procps")
missing flock && problems+=("flock is missing: apt-get install util-linux")

# Needed only by backup.sh: worth knowing now, no reason not to start.
missing gpg && echo "Note: gpg is missing, backup.sh needs it: apt-get install gnupg" >&2

if [ "${#problems[@]}" -gt 0 ]; then
  echo "This machine lacks something:" >&2
  printf '  - %s\n' "${problems[@]}" >&2
  exit 1
fi
