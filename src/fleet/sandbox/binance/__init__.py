"""A local Binance: the used part of its spot REST and websocket, with faults. Loopback only."""
