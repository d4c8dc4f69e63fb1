"""Polymarket: frames, REST reads, sockets, order amounts and signatures."""
