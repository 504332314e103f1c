"""The settings of the web process; gunicorn reads this file by itself, and options on its command line win."""

from __future__ import annotations

import gc
import os
import shutil
import tempfile
from typing import Any

from gunicorn.glogging import Logger

from asapp.core.logs import JsonHandler
from config import Config, ConfigError


class JsonLogger(Logger):  # type: ignore[misc]
    """Gunicorn's own lines in our log format; no access log, since addresses may hold a token."""

    def setup(self, cfg: Any) -> None:
        super().setup(cfg)
        self.error_log.handlers[:] = [JsonHandler()]

    def info(self, msg: str, *args: Any, **kwargs: Any) -> None:
        """Write it out: none of these lines is about a request, and they name sockets and workers."""
        super().info(msg % args if args else msg, **kwargs)


logger_class = JsonLogger
# Threads, since a view that waits for Salesforce must not stop the others of its process; given to whole requests only.
worker_class = "asapp.core.arrival_worker.ArrivalWorker"
threads = 8
graceful_timeout = 30
forwarder_headers = ""  # otherwise it trusts SCRIPT_NAME and PATH_INFO from this machine, also in redirects
control_socket_disable = True  # otherwise it writes to the home directory

# The web processes count requests together in this folder (asapp/health/request_figures.py).
_figures = tempfile.mkdtemp(prefix="asapp-figures-")
os.environ["PROMETHEUS_MULTIPROC_DIR"] = _figures


def on_starting(server: Any) -> None:
    """End with one line where a setting of asapp is missing or bad, before any process is started."""
    if server.app.app_uri != "wsgi:app":
        return
    try:
        Config.from_environment().require_keys()
    except ConfigError as error:
        raise SystemExit(f"asapp can't start: {error}") from None


def post_worker_init(worker: Any) -> None:
    """Watch over the tick, and warn of what is set wrong; where asapp is served, and not a page to compare it with.

    What is loaded by now stays, as in worker.py: collecting garbage need not look at it.
    """
    from asapp.health import watch  # the application is loaded in the workers, not before

    if "asapp.config" in worker.wsgi.extensions:
        watch.warn_of_settings(worker.wsgi)
        watch.start(worker.wsgi)
    gc.freeze()


def on_exit(_server: Any) -> None:
    shutil.rmtree(_figures, ignore_errors=True)
