"""The worker that runs the jobs: `python worker.py`, any number, on any machine. `--burst` stops when the queues are empty."""

from __future__ import annotations

import gc
import sys

from asapp import create_app
from asapp.core.logs import log_what_ends_us
from asapp.jobs.tasks import org_access, worker_heart
from asapp.jobs.warm_up import warm_up
from asapp.jobs.worker import make_worker
from config import Config, ConfigError

COLLECT_AFTER = 10_000  # new objects


def main(arguments: list[str]) -> int:
    if unknown := [argument for argument in arguments if argument != "--burst"]:
        print(f"worker.py: unknown argument {unknown[0]}; there is only --burst", file=sys.stderr)
        return 2
    try:
        config = Config.from_environment()
        config.require_keys()
        app = create_app(config, with_pages=False)
    except ConfigError as error:
        print(f"asapp can't start: {error}", file=sys.stderr)
        return 1
    with app.app_context():
        warm_up(org_access())
    gc.freeze()  # the garbage collector ignores what is loaded so far, and doesn't make a work-horse copy it
    gc.set_threshold(COLLECT_AFTER)  # or it takes a twentieth of a first sync, whose rows are no garbage
    log_what_ends_us()
    with app.app_context():
        make_worker(config.redis_url, worker_heart()).work(burst="--burst" in arguments)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
