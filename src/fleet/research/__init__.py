"""Offline studies of recorded data: they read files and report, and never reach a venue."""
