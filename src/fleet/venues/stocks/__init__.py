"""US stocks at Alpaca through alpaca-py: catalogue, hours, orders, account and bars."""
