"""Programs that run many jobs every second, one for each scheduler; usage: PROGRAM URL SINK JOBS."""
