"""The history of syncs, and the receipt of each."""

from __future__ import annotations

from flask import Blueprint, abort, render_template, request
from flask.typing import ResponseReturnValue

from asapp.audit import entries
from asapp.connections import connections
from asapp.core.forms import whole_number
from asapp.messages.runs import (
    account_of,
    decided_words,
    every,
    figures,
    group_words,
    lasting,
    leads_converted,
    memberships_moved,
    started_by,
    text_about_leaving,
    why_back,
    why_off,
)
from asapp.models import Action, SyncRun
from asapp.models.run import count_off
from asapp.panel import receipts
from asapp.panel.load import explain_run
from asapp.sync import runs
from asapp.web.access import actor, advisor_required
from asapp.web.current import person
from asapp.web.files import csv_file

blueprint = Blueprint("runs", __name__, url_prefix="/settings/integrations/runs")

A_PAGE = 50
EVERYTHING = 5000  # on one page, if all are asked for; the CSV has no limit


for _words in (
    figures,
    account_of,
    decided_words,
    count_off,
    started_by,
    why_off,
    why_back,
    every,
    lasting,
    memberships_moved,
    leads_converted,
    group_words,
    text_about_leaving,
):
    blueprint.add_app_template_global(_words)


@blueprint.get("")
@advisor_required
def index() -> ResponseReturnValue:
    before = whole_number(request.args.get("before"))
    only_changes = request.args.get("only") == "changes"
    found = runs.history(
        connections.all_ids_of(person()), before_id=before, limit=A_PAGE + 1, only_changes=only_changes
    )
    older = found[A_PAGE - 1].id if len(found) > A_PAGE else None
    names = {"runs": found[:A_PAGE], "older": older, "is_first": before is None, "only_changes": only_changes}
    return render_template("runs/index.html", **names)


@blueprint.get("/<int:run_id>")
@advisor_required
def receipt(run_id: int) -> ResponseReturnValue:
    run = get_run(run_id)
    limit = EVERYTHING if request.args.get("all") == "1" else receipts.SHOWN
    made = receipts.make_receipt(run, limit)
    failure = explain_run(made.connection.partner, made.connection, run)
    return render_template("runs/receipt.html", receipt=made, run=run, failure=failure, person=person())


@blueprint.get("/<int:run_id>.csv", endpoint="receipt_csv")
@advisor_required
def receipt_csv(run_id: int) -> ResponseReturnValue:
    run = get_run(run_id)
    entries.record_export(Action.EXPORTED, actor(), run.connection, file="receipt", run=run.id)
    return csv_file(receipts.iter_csv(run_id), f"sync-{run_id}.csv")


def get_run(run_id: int) -> SyncRun:
    run = receipts.find_run(person(), run_id)
    if run is None:
        abort(404)
    return run
