"""Probabilities from words and records: a venue whose fills are forecasts."""
