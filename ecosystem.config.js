// The fleet as PM2 applications. `make start` starts it; so does `pm2 start ecosystem.config.js`.
//
// Every path is absolute, so PM2 may be called from any directory. No secret passes through here:
// PM2 writes an application's whole environment, readable, into dump.pm2. The bots read .env
// themselves.
'use strict'

const fs = require('node:fs')
const path = require('node:path')

const ROOT = __dirname
const PYTHON = path.join(ROOT, '.venv', 'bin', 'python')
const FLEET = path.join(ROOT, '.venv', 'bin', 'fleet')

for (const needed of [PYTHON, FLEET]) {
  if (!fs.existsSync(needed)) {
    throw new Error(`${needed} is missing. Run \`make setup\` in ${ROOT} first.`)
  }
}

// The only variables of the caller's shell an application sees.
const PASSED = ['PATH', 'HOME', 'USER', 'LOGNAME', 'LANG', 'LC_ALL', 'TZ', 'TMPDIR']

function environment () {
  const env = { PYTHONUNBUFFERED: '1' }
  for (const name of PASSED) {
    if (process.env[name]) env[name] = process.env[name]
  }
  return env
}

const app = (name, script, options) => ({
  name,
  namespace: 'fleet',
  cwd: ROOT,
  script,
  interpreter: PYTHON,
  exec_mode: 'fork',
  merge_logs: true,
  vizion: false,
  treekill: true,
  out_file: path.join(ROOT, 'logs', `${name.toLowerCase()}-out.log`),
  error_file: path.join(ROOT, 'logs', `${name.toLowerCase()}-error.log`),
  // PM2 drops each variable whose name contains one of these texts. Every name contains '', so
  // nothing of the shell is passed but what `env` lists. (`true` is accepted and does nothing.)
  filter_env: [''],
  env: environment(),
  // 75: a twin of it runs already. 78: it asks to stay down (settings, kill latch).
  stop_exit_codes: [75, 78],
  // Ten starts that each lived less than a minute, within ten minutes, and PM2 gives up.
  min_uptime: '60s',
  max_restarts: 10,
  exp_backoff_restart_delay: 500,
  // Time to cancel orders and close the journal after SIGINT, before SIGKILL.
  kill_timeout: 15000,
  // "online" means that the bot said so, or that ten seconds have passed.
  wait_ready: true,
  listen_timeout: 10000,
  ...options
})

module.exports = {
  apps: [
    app('Sandbox', FLEET, { args: ['sandbox', '--root', ROOT], max_memory_restart: '500M' }),
    app('ArbHunter', path.join(ROOT, 'run_arbhunter.py'), { max_memory_restart: '500M' }),
    app('PolyAI', path.join(ROOT, 'run_polyai.py'), { max_memory_restart: '1G' }),
    app('EliteMimic', path.join(ROOT, 'run_elitemimic.py'), { max_memory_restart: '500M' }),
    app('LogRotate', FLEET, { args: ['logrotate', '--every', '60', '--root', ROOT], max_memory_restart: '100M' })
  ]
}
