"""The fault campaign: real processes, real servers, simulated orgs, and everything that can go wrong going wrong.

`make chaos ARGS="--seed 1 --faults 200"`. What it does stands in __main__.py, what it breaks in faults.py, and what has to hold
in verdict.py, when all is quiet, and in mail_verdict.py, with each answer to a sender.
"""
