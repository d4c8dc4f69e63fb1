"""A local stand-in for model endpoints and news sources: their protocols, none of their wisdom."""
