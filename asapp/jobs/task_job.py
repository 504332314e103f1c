"""The jobs that a worker accepts: one function of asapp.jobs.tasks, by name, and nothing else from Redis.

RQ imports whatever a job names: its function, three kinds of callback, and where to report how it ended. A person who can
write to Redis must not be able to run code in a worker, which has the encryption keys.
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
    """A job names a function that is not one of our tasks. The message never quotes it: RQ keeps it, and it is logged."""


class TaskJob(Job):
    def __init__(self, id: str | None = None, connection: Any = None, serializer: Any = None) -> None:  # noqa: A002 - RQ's name
        super().__init__(id, connection=connection, serializer=serializer or JSONSerializer)

    def restore(self, raw_data: Any) -> Any:
        """Load as RQ does, without what it would import or call when the job ends."""
        restored = super().restore(raw_data)
        self._success_callback_name = self._failure_callback_name = self._stopped_callback_name = None
        self.webhooks = []
        return restored

    @property
    def func(self) -> Callable[..., Any]:
        """Return the task; raises NotATask."""
        if self.instance is not None:
            raise NotATask("a job names an object")
        return find_task(self.func_name or "")


def find_task(name: str) -> Callable[..., Any]:
    """Return the function of asapp.jobs.tasks with this full name. Raises NotATask before anything is imported."""
    module, _, function = name.rpartition(".")
    found = getattr(import_module(TASKS), function, None) if module == TASKS and not function.startswith("_") else None
    if not isfunction(found) or found.__module__ != TASKS:
        raise NotATask("a job names a function that is no task of ours")
    return found
