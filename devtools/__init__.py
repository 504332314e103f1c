"""Demo, fault campaign and set-up, and what they share with benchmarks and tests; nothing here is part of the app.

- `processes.py`: web, worker, scheduler and the simulated org as processes; `servers.py`: Redis and PostgreSQL.
- `guard.py`: all of them end with the process that started them; `programs.py`: where programs are; `waiting.py`.
- `makers.py`: rows that benchmarks and tests start from.
- `demo.py` with `drive.py` and `visitor.py`: `make demo`. `chaos/`: `make chaos`.
- `system.py`, `npm_files.py`, `venv.sh`: set-up.
"""
