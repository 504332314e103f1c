"""The blueprints, in the order of the navigation."""

from __future__ import annotations

from flask import Blueprint

from asapp.web import (
    advisors,
    audit,
    auth,
    board,
    connect,
    contacts,
    health,
    home,
    integrations,
    leads,
    lists,
    optin,
    partner_setup,
    partners,
    passwords,
    runs,
    settings,
)

BLUEPRINTS: tuple[Blueprint, ...] = (
    home.blueprint,
    auth.blueprint,
    passwords.blueprint,
    contacts.blueprint,
    lists.blueprint,
    leads.blueprint,
    optin.blueprint,
    settings.blueprint,
    integrations.blueprint,
    connect.blueprint,
    runs.blueprint,
    partners.blueprint,
    advisors.blueprint,
    partner_setup.blueprint,
    board.blueprint,
    audit.blueprint,
    health.blueprint,
)
