"""An attacker who can write to Redis can keep a worker busy, but runs no code in it: jobs can name only our own tasks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from redis import Redis
from rq import Queue
from rq.job import Job
from rq.registry import FailedJobRegistry, FinishedJobRegistry
from rq.serializers import JSONSerializer

from asapp.core import queues
from asapp.jobs import task_job, tick_scheduler
from asapp.jobs.task_job import NotATask, TaskJob, find_task
from config import Config
from devtools.processes import Worker
from devtools.waiting import wait_for

ALL_JOBS = sorted({value for name, value in {**vars(queues), **vars(tick_scheduler)}.items() if name.endswith("_JOB")})


@pytest.mark.parametrize("name", ALL_JOBS)
def test_every_job_of_ours_is_a_task(name: str) -> None:
    assert find_task(name).__name__ == name.rpartition(".")[2]


@pytest.mark.parametrize(
    "name",
    [
        *(
            "os.system",
            "builtins.eval",
            "subprocess.run",
            "antigravity",
            "",
            ".",
            "tick",
            "asapp.jobs.tasks",
            "asapp.jobs.tasks.",
        ),
        *(
            "asapp.jobs.tasks.os.system",
            "asapp.jobs.tasks.current_app",
            "asapp.jobs.tasks.logging.shutdown",
            "asapp.jobs.tasks.db",
        ),
        *(
            "asapp.jobs.tasks.__doc__",
            "asapp.jobs.tasks.JobFailed",
            "asapp.jobs.tasks._app",
            "asapp.cli.register",
        ),
        *(
            "asapp.jobs.tasks.Config.from_environment",
            "asapp.jobs.tasks.deliver",
            "ASAPP.jobs.tasks.tick",
            "asapp.jobs.tasks.tick ",
        ),
    ],
)
def test_nothing_else_is(name: str) -> None:
    with pytest.raises(NotATask):
        find_task(name)


def restored(**fields: Any) -> TaskJob:
    """Return a job as it is loaded from Redis."""
    job = TaskJob("x", connection=Redis(port=1))
    data = json.dumps(["asapp.jobs.tasks.tick", None, [], {}])
    job.restore({name.encode(): str(value).encode() for name, value in ({"data": data} | fields).items()})
    return job


def test_what_a_job_wants_to_be_called_at_its_end_is_not_called() -> None:
    names = ("success_callback_name", "failure_callback_name", "stopped_callback_name")
    hook = json.dumps([{"url": "http://127.0.0.1:1/", "statuses": ["finished", "failed"]}])
    job = restored(**dict.fromkeys(names, "os.system"), webhooks=hook)
    assert (job.success_callback, job.failure_callback, job.stopped_callback, job.webhooks) == (None, None, None, [])
    assert job.func.__name__ == "tick"


def test_an_object_that_a_job_names_is_not_asked() -> None:
    with pytest.raises(NotATask):
        _ = restored(data=json.dumps(["format", "{0}", ["x"], {}])).func


@pytest.mark.slow
@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_worker_refuses_it_and_goes_on(app: Flask, config: Config, tmp_path: Path) -> None:
    made = tmp_path / "made"
    with Redis.from_url(config.redis_url) as redis:
        queue = Queue(queues.LEADS_QUEUE, connection=redis, serializer=JSONSerializer)
        refused = queue.enqueue("os.system", f"touch {made}")
        good = queue.enqueue("asapp.jobs.tasks.deliver_leads", 0, result_ttl=60)
        with Worker(config, tmp_path / "worker.log"):
            wait_for(lambda: good.id in FinishedJobRegistry(queue=queue).get_job_ids(), "for the job of ours")
        assert refused.id in FailedJobRegistry(queue=queue).get_job_ids()
    assert not made.exists()
    assert "touch" not in (tmp_path / "worker.log").read_text()


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_the_scheduler_imports_no_class_that_a_job_names(app: Flask, config: Config) -> None:
    with Redis.from_url(config.redis_url) as redis:
        scheduler = tick_scheduler.TickScheduler(redis)
        job = Job.create(
            "os.system", connection=redis, serializer=JSONSerializer, meta={"queue_class_name": "this.is.nowhere"}
        )
        assert scheduler.get_queue_for_job(job).name == queues.TICK_QUEUE
    assert task_job.TASKS == "asapp.jobs.tasks"
