"""The sandbox's exchange: accounts, orders, matching, settlement, positions. No sockets in here."""
