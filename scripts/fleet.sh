#!/usr/bin/env bash
# Starts, stops and shows the fleet through PM2, one call at a time.
#
# Why not plain `pm2 start`: on a running fleet it restarts every bot; two calls at once can leave a
# bot running twice; without `ps` every restart doubles the bot; a daemon born of `npm start` runs
# `npm update` when it crashes. `pm2 ...` typed by hand works all the same and sees the same daemon.
set -euo pipefail
umask 077

ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)"
PM2="$ROOT/node_modules/.bin/pm2"
PYTHON="$ROOT/.venv/bin/python"
ECOSYSTEM="$ROOT/ecosystem.config.js"
HEALTHY_WITHIN_S="${FLEET_HEALTHY_WITHIN_S:-30}"
LOCK_WAIT_S=60

# The daemon checks memory limits this often (its default is 30 s) and asks no server for versions.
export PM2_WORKER_INTERVAL=10000
export PM2_DISABLE_VERSION_CHECK=1

say() { printf '%s\n' "$*"; }
die() {
  printf 'fleet: %s\n' "$*" >&2
  exit 1
}

usage() {
  say "usage: scripts/fleet.sh start|stop|restart|status|logs|save"
  say "  start    start what is not running; leaves alone what is; waits until healthy"
  say "  stop     stop this checkout's applications"
  say "  restart  stop, then start"
  say "  status   what runs and whether it is healthy"
  say "  logs     follow the log files"
  say "  save     remember the list of applications for \`pm2 resurrect\`"
}

# --- preconditions ------------------------------------------------------------------------------

require_setup() {
  [ -x "$PYTHON" ] && [ -x "$PM2" ] && [ -x "$ROOT/.venv/bin/fleet" ] ||
    die "not set up yet: run \`make setup\` in $ROOT"
}

require_ps() {
  # PM2's daemon stops process trees with `ps`; without it each restart starts the bot twice.
  command -v ps >/dev/null 2>&1 ||
    die "\`ps\` is missing, and PM2 would start bots twice without it: apt-get install procps"
}

# The daemon is the user's own, so that `pm2 monit` typed by hand shows this fleet.
open_pm2_home() {
  if [ -z "${PM2_HOME:-}" ]; then
    [ -n "${HOME:-}" ] || die "neither PM2_HOME nor HOME is set: set one"
    PM2_HOME="$HOME/.pm2"
  fi
  export PM2_HOME
  mkdir -p "$PM2_HOME"
  # rpc.sock runs code for whoever can connect, and dump.pm2 holds environments.
  chmod 0700 "$PM2_HOME"
}

# One PM2 call of ours at a time. The lock's descriptor is closed for PM2, or the daemon it starts
# would hold the lock for ever.
lock() {
  command -v flock >/dev/null 2>&1 || die "\`flock\` is missing: apt-get install util-linux"
  exec 9>"$PM2_HOME/fleet.lock"
  flock -w "$LOCK_WAIT_S" 9 ||
    die "another PM2 call has held $PM2_HOME/fleet.lock for $LOCK_WAIT_S s: look at it with \`ps\`"
}

pm2() { (
  cd "$ROOT"
  # bash sets `_` to the program it starts. The daemon keeps it and runs `node $_ update` after an
  # internal error: it must be pm2 itself.
  "$PM2" "$@" 9>&-
); }

fleet() { "$PYTHON" -m fleet.cli.main "$@" --root "$ROOT" 9>&-; }

app_names() {
  node -e 'console.log(require(process.argv[1]).apps.map((app) => app.name).join("\n"))' "$ECOSYSTEM"
}

# --- verbs --------------------------------------------------------------------------------------

start() {
  local names plan step name detail
  local -a wanted=() fresh=() renewed=() foreign=()
  names="$(app_names)" || die "ecosystem.config.js cannot be read: see above"
  mapfile -t wanted <<<"$names"
  plan="$(fleet status --plan "${wanted[@]}")" || die "PM2 does not answer: see above"
  while IFS=$'\t' read -r step name detail; do
    case "$step" in
      keep) say "$name: $detail" ;;
      wait) say "$name: $detail; PM2 acts by itself" ;;
      start) fresh+=("$name") ;;
      renew) fresh+=("$name") renewed+=("$name"); say "$name: $detail; starting it again" ;;
      foreign) foreign+=("$name"); say "$name belongs to $detail" >&2 ;;
    esac
  done <<<"$plan"
  if [ "${#foreign[@]}" -gt 0 ]; then
    die "PM2 already keeps ${foreign[*]} from another directory. Remove them there with" \
      "\`pm2 delete ${foreign[*]}\`, or give this checkout a PM2 of its own: PM2_HOME=$ROOT/var/pm2"
  fi
  if [ "${#renewed[@]}" -gt 0 ]; then
    pm2 delete "${renewed[@]}" >/dev/null || die "PM2 could not forget ${renewed[*]}"
  fi
  if [ "${#fresh[@]}" -eq 0 ]; then
    say "Nothing to start."
  else
    # logs/ and var/ may have been cleaned away since set-up.
    "$ROOT/setup_logs.sh" 9>&- >/dev/null || die "logs/ is not usable: see above"
    local only
    only="$(IFS=,; printf '%s' "${fresh[*]}")"
    pm2_quietly start "$ECOSYSTEM" --only "$only"
    say "Started: ${fresh[*]}"
  fi
  # The bots report for themselves from here on; others may call PM2 meanwhile.
  flock -u 9
  if ! fleet status --wait "$HEALTHY_WITHIN_S" --expect "${wanted[@]}"; then
    die "the fleet is not healthy (looked for up to $HEALTHY_WITHIN_S s): see above and $ROOT/logs"
  fi
  say ""
  say "Logs:  $ROOT/logs  (arbhunter.log is the one to read)"
  say "Next:  make status   make logs   make stop"
  say "       pm2 monit works too (npx pm2 monit without a global PM2)"
}

# PM2 prints banners and tables; they matter only when something went wrong.
pm2_quietly() {
  local output
  if ! output="$(pm2 "$@" 2>&1)"; then
    printf '%s\n' "$output" >&2
    die "\`pm2 $1\` failed: see above"
  fi
}

stop() {
  local names plan step name detail
  local -a wanted=() running=()
  names="$(app_names)" || die "ecosystem.config.js cannot be read: see above"
  mapfile -t wanted <<<"$names"
  plan="$(fleet status --plan "${wanted[@]}")" || die "PM2 does not answer: see above"
  while IFS=$'\t' read -r step name detail; do
    case "$step" in
      keep | wait) running+=("$name") ;;
      foreign) say "$name belongs to $detail: left alone" >&2 ;;
    esac
  done <<<"$plan"
  if [ "${#running[@]}" -eq 0 ]; then
    say "Nothing runs."
    return
  fi
  pm2_quietly stop "${running[@]}"
  say "Stopped: ${running[*]}"
}

follow_logs() {
  local -a files=()
  for file in "$ROOT"/logs/arbhunter.log "$ROOT"/logs/*-error.log; do
    [ -e "$file" ] && files+=("$file")
  done
  [ "${#files[@]}" -gt 0 ] || die "no log yet in $ROOT/logs: run \`make start\`"
  exec tail -n 40 -F "${files[@]}"
}

save() {
  pm2_quietly save
  # A full disk makes `pm2 save` leave an empty file and say nothing.
  [ -s "$PM2_HOME/dump.pm2" ] || die "$PM2_HOME/dump.pm2 is empty: is the disk full?"
  chmod 0600 "$PM2_HOME"/dump.pm2*
  say "Saved in $PM2_HOME/dump.pm2; \`pm2 resurrect\` brings it back."
}

# --- main ---------------------------------------------------------------------------------------

verb="${1:-}"
case "$verb" in
  start | stop | restart | save)
    require_setup
    require_ps
    open_pm2_home
    lock
    case "$verb" in
      restart)
        stop
        start
        ;;
      *) "$verb" ;;
    esac
    ;;
  status)
    require_setup
    fleet status
    ;;
  logs) follow_logs ;;
  -h | --help | help) usage ;;
  *)
    usage >&2
    exit 64
    ;;
esac
