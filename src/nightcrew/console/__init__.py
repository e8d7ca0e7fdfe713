"""The command line as a person meets it: how it is typed, which crew it means, and what it shows."""
