"""What a worker takes for a job: one function of asapp.jobs.tasks, named by Redis, and nothing else that Redis may name.

RQ imports whatever a job names: its function, three kinds of callback, addresses that are told how it ended. Who can write to
Redis must not run code in a worker, which holds the encryption keys.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from inspect import isfunction
from typing import Any

from rq.job import Job
from rq.serializers import JSONSerializer

TASKS = "asapp.jobs.tasks"


class NotATask(Exception):
    """A job names a function that is no task of ours. The text never quotes it: RQ keeps it, and it goes to the log."""


class TaskJob(Job):
    def __init__(self, id: str | None = None, connection: Any = None, serializer: Any = None) -> None:  # noqa: A002 - RQ's name
        super().__init__(id, connection=connection, serializer=serializer or JSONSerializer)

    def restore(self, raw_data: Any) -> Any:
        """As RQ, without what it would import or call when the job has ended."""
        restored = super().restore(raw_data)
        self._success_callback_name = self._failure_callback_name = self._stopped_callback_name = None
        self.webhooks = []
        return restored

    @property
    def func(self) -> Callable[..., Any]:
        """Raises NotATask."""
        if self.instance is not None:
            raise NotATask("a job names an object")
        return find_task(self.func_name or "")


def find_task(name: str) -> Callable[..., Any]:
    """Return the function of asapp.jobs.tasks with this full name. Raises NotATask, before anything is imported for it."""
    module, _, function = name.rpartition(".")
    found = getattr(import_module(TASKS), function, None) if module == TASKS and not function.startswith("_") else None
    if not isfunction(found) or found.__module__ != TASKS:
        raise NotATask("a job names a function that is no task of ours")
    return found
