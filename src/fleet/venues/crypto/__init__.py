"""Binance spot: orders and account through ccxt, market data from its websocket."""
