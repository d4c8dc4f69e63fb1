#!/usr/bin/env bash
# Makes logs/ and var/, private to you, and sees to it that the log files cannot fill the disk.
# Safe to run again at any time; needs no root, no network, nothing installed system-wide.
#
# Who rotates what:
#   logs/<bot>.log                     the bot itself, by size
#   logs/*-out.log, logs/*-error.log   PM2 writes them; the PM2 application LogRotate
#                                      (`fleet logrotate --every 60`) copies and truncates each at
#                                      10 MB and keeps 7 compressed copies
# If you would rather use the system's logrotate, this script also writes var/logrotate.conf:
#   logrotate --state var/logrotate.state var/logrotate.conf
set -euo pipefail
umask 077

ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)"

private_folder() {
  mkdir -p "$1"
  chmod 0700 "$1"
}

private_folder "$ROOT/logs"
private_folder "$ROOT/var"
private_folder "$ROOT/var/locks"
private_folder "$ROOT/var/status"

# Files of an earlier PM2 with a loose umask keep their mode for ever: tighten them.
find "$ROOT/logs" -type f \( -name '*.log' -o -name '*.log.*' \) -exec chmod 0600 {} +

conf="$ROOT/var/logrotate.conf"
cat >"$conf.partial" <<CONF
"$ROOT/logs/*-out.log" "$ROOT/logs/*-error.log" {
    size 10M
    rotate 7
    copytruncate
    compress
    missingok
    notifempty
}
CONF
mv "$conf.partial" "$conf"

# One pass now, for what grew while nothing ran.
if [ -x "$ROOT/.venv/bin/python" ] && [ -x "$ROOT/.venv/bin/fleet" ]; then
  "$ROOT/.venv/bin/python" -m fleet.cli.main logrotate --root "$ROOT" || {
    echo "setup_logs.sh: a log file could not be rotated, see above (is the disk full?)" >&2
    exit 1
  }
fi

echo "logs in $ROOT/logs (0700), rotated at 10 MB, 7 kept"
