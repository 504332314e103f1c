"""`make bench`: how fast asapp is, as ratios against floors measured in the same run.

- `floors.py`, `bare.py`: the least that the work can cost, as fast as we can write it; they import nothing from asapp.
- `ours.py`: the same work by asapp, through production's own entry points (asapp.jobs.tasks, worker.py, gunicorn).
- `house.py`: real services, the simulated org as its own process, a fresh copy of a prepared database for every round.
- `rounds.py`: contenders take turns (A B A B …), each round in a process of its own; medians with spread.
- `parts.py`: what is measured. `__main__.py`: the command line and the table of targets.

docs/performance.md explains how to read the figures.
"""
