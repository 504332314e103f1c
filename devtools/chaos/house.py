"""The processes of a campaign: PostgreSQL, Redis, the orgs, web, workers and scheduler.

What dies of the last four is started again within half a second, as systemd would do it. Of the web process nothing is
left over (KillMode=mixed); a work-horse whose worker was killed lives on, which is the harder case.
"""

from __future__ import annotations

import random
from pathlib import Path

from config import Config
from devtools.processes import Keeper, Scheduler, SimulatedOrg, Web, Worker, end_all
from devtools.programs import free_port
from devtools.servers import PostgresServer, RedisServer

RESTART_S = 0.4
READY_S = 90.0
STOP_S = 5.0
DATABASE = "chaos"
TRUSTED_PROXIES = 1  # every person comes from an address of its own
INTERVAL_MINUTES = 5  # the shortest that the settings allow


class ChaosHouse:
    def __init__(self, folder: Path, orgs: int, workers: int, rng: random.Random) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.postgres = PostgresServer()
        self.redis = RedisServer()
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self.key, self.secret = "chaos-consumer-key", "chaos-consumer-secret"
        self.config = Config(
            secret_key=rng.randbytes(48).hex(),
            encryption_keys=(rng.randbytes(32),),
            database_url=self.postgres.url(DATABASE),
            redis_url=self.redis.url,
            public_url=self.url,
            trusted_proxies=TRUSTED_PROXIES,
            salesforce_allow_loopback=True,
            sync_interval_minutes=INTERVAL_MINUTES,
        )
        self.orgs = [self._make_org(number) for number in range(orgs)]
        self.web = Web(self.config, folder / "web.log", port=port, workers=2, threads=4)
        names = [f"worker{number}" for number in range(workers)]
        self.workers = [Worker(self.config, folder / f"{name}.log", name) for name in names]
        self.scheduler = Scheduler(self.config, folder / "scheduler.log")
        self._keeper = Keeper([self.web, self.scheduler, *self.workers], RESTART_S, RESTART_S)

    def start_servers(self) -> None:
        self.postgres.start()
        self.redis.start()
        self.postgres.create_database(name=DATABASE)
        for org in self.orgs:
            org.spawn()
        for org in self.orgs:
            org.wait_until_ready(READY_S)

    def start_app(self) -> None:
        """Start web, workers and scheduler, and from now on start again what dies of them."""
        for process in (self.web, *self.workers, self.scheduler):
            process.spawn()
        self.web.wait_until_ready(READY_S)
        self._keeper.start()

    def stop(self) -> None:
        self._keeper.stop()
        processes = [self.web, *self.workers, self.scheduler, *self.orgs]
        end_all(processes, STOP_S)
        for process in processes:
            if process.is_running:
                process.kill_with_children()
        self.postgres.kill()
        self.redis.kill()

    def _make_org(self, number: int) -> SimulatedOrg:
        options = ["--seed", "empty", "--number", str(number), "--callback", self.config.callback_url]
        return SimulatedOrg(self.folder / f"org{number}.log", self.key, self.secret, *options, name=f"org{number}")
