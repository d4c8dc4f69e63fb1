"""The outside world: venues that trade and feeds that report, behind two small ports."""
