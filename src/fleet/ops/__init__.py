"""Reading and keeping the running fleet; cannot send an order (it may not import a venue)."""
