"""The fault campaign: real processes, real servers, simulated orgs, and everything that can go wrong going wrong.

`make chaos ARGS="--seed 1 --faults 200"`. What it does stands in __main__.py, what it breaks in faults.py, what has to hold
in the end in verdict.py.
"""
