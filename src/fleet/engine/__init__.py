"""Decides: no clock, no sockets; one synchronous entry, ``Engine.handle``."""
