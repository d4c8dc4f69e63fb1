#!/bin/bash
# Make, verify or restore an encrypted backup of the fleet. Made for cron: no terminal needed.
#   ./backup.sh                          make a backup
#   ./backup.sh --verify FILE            open a backup in private and prove it
#   ./backup.sh --restore FILE --to DIR  bring it back in a new directory and prove it
#   ./backup.sh --help                   settings and exit codes
set -euo pipefail
umask 077
export PATH="${PATH:-/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin}"
export LC_ALL=C.UTF-8

here="$(cd -- "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")" && pwd)"
python="$here/.venv/bin/python"
if [[ ! -x "$python" ]]; then
  echo "backup failed: $here/.venv is missing; run: make -C $here setup" >&2
  exit 69
fi
export FLEET_HOME="${FLEET_HOME:-$here}"
export PYTHONPATH="$here/src" PYTHONDONTWRITEBYTECODE=1
exec "$python" -m fleet.cli.main backup "$@"
