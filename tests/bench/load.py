"""An application's traffic on the table that is swept: so many transactions a second, whatever their answers take.

`python -m tests.bench.load URL RATE SECONDS` prints, as JSON, the milliseconds of each from the moment it was due. A
rate of 0 is as many as there can be: what they come to is the capacity.
"""

import json
import random
import sys
import threading
import time

import sqlalchemy as sa

CLIENTS = 4
_READ = sa.text("SELECT data FROM sessions WHERE id = :id")
_WRITE = sa.text("UPDATE sessions SET user_id = user_id + 1 WHERE id = :id")


def main() -> None:
    url, rate, seconds = sys.argv[1], float(sys.argv[2]), float(sys.argv[3])
    engine = sa.create_engine(url, pool_size=CLIENTS)
    with engine.connect() as connection:
        last = connection.exec_driver_sql("SELECT max(id) FROM sessions").scalar_one()
    found: list[list[float]] = [[] for _ in range(CLIENTS)]
    threads = [threading.Thread(target=_client, args=(engine, last, rate / CLIENTS, seconds, times)) for times in found]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    engine.dispose()
    print(json.dumps([round(ms, 3) for times in found for ms in times]))


def _client(engine: sa.Engine, last: int, rate: float, seconds: float, times: list[float]) -> None:
    chance = random.Random(0)
    with engine.connect() as connection:
        begun = due = time.perf_counter()
        while due < begun + seconds:
            time.sleep(max(0.0, due - time.perf_counter()))
            row = {"id": last - chance.randrange(1000)}
            connection.execute(_READ, row)
            connection.execute(_WRITE, row)
            connection.commit()
            now = time.perf_counter()
            times.append(1000 * (now - due))
            due = due + chance.expovariate(rate) if rate else now


if __name__ == "__main__":
    main()
