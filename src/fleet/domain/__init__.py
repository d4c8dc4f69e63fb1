"""The vocabulary: units, instruments, events and commands. Standard library only."""
