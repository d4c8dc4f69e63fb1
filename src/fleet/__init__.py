"""A fleet of specialised trading bots: one pure engine, many feeds, strategies and venues."""

__version__ = "0.1.0"
