"""Ideas, one file each; pure: they look at a view and return wishes."""
