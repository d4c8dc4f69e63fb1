"""The `fleet` command; may import everything, nobody imports it."""
