"""nightcrew with jobs of which none is due for long."""

import signal

from tests.bench.schedulers.sink import JOBS, URL

from nightcrew import Job, Nightcrew, Settings, cron

crew = Nightcrew(URL, settings=Settings())
for number in range(JOBS):
    crew.add(Job(f"job-{number}", cron(f"{number % 60} {number % 24} 1 1 *"), function=lambda run: 0))
crew.migrate()
crew.start()
signal.pause()
