"""What runs the jobs: `python worker.py`, any number, on any machine. `--burst` stops when the queues are empty."""

from __future__ import annotations

import sys

from asapp.jobs.tasks import worker_app, worker_heart
from asapp.jobs.worker import make_worker
from asapp.logs import log_what_ends_us
from config import Config, ConfigError


def main(arguments: list[str]) -> int:
    if unknown := [argument for argument in arguments if argument != "--burst"]:
        print(f"worker.py: unknown argument {unknown[0]}; there is only --burst", file=sys.stderr)
        return 2
    try:
        config: Config = worker_app().extensions["asapp.config"]
    except ConfigError as error:
        print(f"asapp can't start: {error}", file=sys.stderr)
        return 1
    log_what_ends_us()
    make_worker(config.redis_url, worker_heart()).work(burst="--burst" in arguments)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
