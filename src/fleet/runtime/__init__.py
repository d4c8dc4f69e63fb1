"""The imperative shell: sockets, timers and operators around the pure engine."""
