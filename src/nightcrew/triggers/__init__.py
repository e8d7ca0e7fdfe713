"""Who starts a run: the doors into the crew."""
