"""The sandbox's protocols around its exchange: keys, orders, accounts, limits, user channel."""
