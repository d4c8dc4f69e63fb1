"""Operations beside the bots: backup, health, watchdog. Reads files; can never send an order."""
