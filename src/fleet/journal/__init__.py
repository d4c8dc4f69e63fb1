"""Durable files with one writer each: journal, tape, control; and the shared fleet state."""
