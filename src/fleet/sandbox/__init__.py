"""A local stand-in for Polymarket: its read protocols over a seeded market simulator."""
