"""Several writers at once, each in a thread with database connections of its own."""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Callable
from typing import Any

from flask import Flask

from asapp.core.database import writing
from asapp.core.extensions import db

ROUNDS = int(os.environ.get("RACE_ROUNDS", "10"))  # of each race; 200 and more to find rare failures
LATER_S = 0.02


def race(app: Flask, *works: Callable[[], Any], patience_s: float = 60.0) -> list[Any]:
    """Start all of these at the same time; return what each returned or raised."""
    db.session.rollback()
    results: list[Any] = [None] * len(works)
    start = threading.Barrier(len(works))

    def run(place: int, work: Callable[[], Any]) -> None:
        with app.app_context(), writing():
            try:
                start.wait(patience_s)
                time.sleep(random.uniform(0, LATER_S))
                results[place] = work()
            except Exception as error:  # noqa: BLE001 - the test judges it
                results[place] = error
            finally:
                db.session.remove()

    threads = [threading.Thread(target=run, args=pair, daemon=True) for pair in enumerate(works)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(patience_s)
        assert not thread.is_alive(), "a writer waits for ever"
    db.session.expire_all()
    return results


def crash_of(results: list[Any]) -> list[Exception]:
    return [result for result in results if isinstance(result, Exception)]
