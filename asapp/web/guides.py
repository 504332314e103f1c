"""The guides: for advisors and for firms' Salesforce admins, open to everyone; for AdvisorStream's admins, to these."""

from __future__ import annotations

from flask import Blueprint, render_template
from flask.typing import ResponseReturnValue

from asapp.core import formats
from asapp.core.clock import utcnow
from asapp.messages.checks import usual_fixes
from asapp.messages.contacts import REASONS
from asapp.messages.runs import every
from asapp.models import Partner
from asapp.partners.setup_link import LIFETIME as LINK_LIFETIME
from asapp.web.access import admin_required
from asapp.web.current import config
from asapp.web.partner_setup import app_settings

blueprint = Blueprint("guides", __name__, url_prefix="/help")

DEFAULTS = {name: Partner.__table__.c[name].default.arg for name in ("opt_outs_trusted_days", "api_share_percent")}


@blueprint.get("/advisor")
def advisor() -> ResponseReturnValue:
    return show(
        "guides/advisor.html", reasons=[(words.short, words.meaning, words.remedy) for words in REASONS.values()]
    )


@blueprint.get("/salesforce-admin")
def salesforce_admin() -> ResponseReturnValue:
    kept = {"runs_kept": config().runs_kept_days, "calls_kept": config().traces_kept_days}
    return show("guides/salesforce_admin.html", checks=usual_fixes(), **kept, **app_settings())


@blueprint.get("/admin")
@admin_required
def admin() -> ResponseReturnValue:
    return show("guides/admin.html")


def show(template: str, **names: object) -> str:
    figures = {"interval": every(config().sync_interval_minutes), "link_days": LINK_LIFETIME.days, **DEFAULTS}
    about = {"today": formats.day(utcnow()), "public_url": config().public_url}
    return render_template(template, **about, **figures, **names)
