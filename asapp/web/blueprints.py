"""The blueprints, in the order of the navigation."""

from __future__ import annotations

from flask import Blueprint

from asapp.web import auth, connect, contacts, health, home, integrations, leads, lists, optin, partners, runs, settings

BLUEPRINTS: tuple[Blueprint, ...] = (
    home.blueprint,
    auth.blueprint,
    contacts.blueprint,
    lists.blueprint,
    leads.blueprint,
    optin.blueprint,
    settings.blueprint,
    integrations.blueprint,
    connect.blueprint,
    runs.blueprint,
    partners.blueprint,
    health.blueprint,
)
