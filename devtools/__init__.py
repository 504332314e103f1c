"""Helpers for set-up, demo and tests; nothing here is part of the app."""
