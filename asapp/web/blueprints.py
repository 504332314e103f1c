"""The blueprints, in the order of the navigation."""

from __future__ import annotations

from flask import Blueprint

from asapp.web import auth, health, home, settings

BLUEPRINTS: tuple[Blueprint, ...] = (
    home.blueprint,
    auth.blueprint,
    settings.blueprint,
    health.blueprint,
)
