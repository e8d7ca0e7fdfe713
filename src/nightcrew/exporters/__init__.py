"""The schedules of a crew, written for others: vercel · github · crontab · systemd · kubernetes."""
