"""What each bot is: its settings, its strategy, its limits. The run scripts call these."""
