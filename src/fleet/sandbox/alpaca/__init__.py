"""A local Alpaca: the used part of its trading and data interfaces, on 127.0.0.1."""
