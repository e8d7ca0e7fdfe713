"""The kinds of listener: each hears every entry once it is committed, and none can fail a run."""
