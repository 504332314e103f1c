"""The settings of the web process; gunicorn reads this file by itself, and options on its command line win."""

from __future__ import annotations

import gc
from typing import Any

from gunicorn.glogging import Logger

from asapp.core.logs import JsonHandler


class JsonLogger(Logger):  # type: ignore[misc]
    """Gunicorn's own lines in our log format; no access log, since addresses may hold a token."""

    def setup(self, cfg: Any) -> None:
        super().setup(cfg)
        self.error_log.handlers[:] = [JsonHandler()]


logger_class = JsonLogger
worker_class = "gthread"  # a view that waits for Salesforce must not stop the others of its process
threads = 8
graceful_timeout = 30
forwarder_headers = ""  # otherwise it trusts SCRIPT_NAME and PATH_INFO from this machine, also in redirects
control_socket_disable = True  # otherwise it writes to the home directory


def post_worker_init(_worker: Any) -> None:
    """What is loaded by now stays, as in worker.py: collecting garbage need not look at it."""
    gc.freeze()
