"""The blueprints, in the order of the navigation."""

from __future__ import annotations

from flask import Blueprint

from asapp.web import auth, contacts, health, home, lists, partners, settings

BLUEPRINTS: tuple[Blueprint, ...] = (
    home.blueprint,
    auth.blueprint,
    contacts.blueprint,
    lists.blueprint,
    settings.blueprint,
    partners.blueprint,
    health.blueprint,
)
