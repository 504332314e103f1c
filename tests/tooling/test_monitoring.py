"""The rules for Prometheus and the dashboard for Grafana: valid, about figures that exist, and firing when they should."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from flask.testing import FlaskClient

from devtools.guard import ROOT
from devtools.programs import find_promtool

RULES = ROOT / "deploy/prometheus/asapp.rules.yml"
DASHBOARD = json.loads((ROOT / "deploy/grafana/asapp.json").read_text())
HANDBOOK = (ROOT / "docs/operations.md").read_text()
NOT_ON_AN_EMPTY_SYSTEM = {
    *("asapp_api_calls", "asapp_api_calls_share", "asapp_org_api_used_ratio", "asapp_partner_paused"),  # by firm
    *("asapp_sync_interval_minutes", "asapp_sync_interval_stretched"),
}


def promtool(*words: str) -> str:
    answer = subprocess.run([find_promtool(), *words], capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    return answer.stdout


def rules() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


def names_in(expression: str) -> set[str]:
    return set(re.findall(r"\basapp_\w+", expression))


@pytest.fixture
def known(client: FlaskClient) -> set[str]:
    """The names of all figures, of requests as well."""
    client.get("/healthz")
    text = client.get("http://127.0.0.1:8000/metrics").text
    return set(re.findall(r"^(asapp_\w+?)(?:\{| )", text, re.MULTILINE)) | NOT_ON_AN_EMPTY_SYSTEM


def test_the_rules_are_valid_and_each_figure_in_bold_has_one(known: set[str]) -> None:
    assert f"SUCCESS: {len(rules())} rules found" in promtool("check", "rules", str(RULES))
    bold = set(re.findall(r"\*\*`(asapp_\w+)`\*\*", HANDBOOK))
    ruled = names_in(" ".join(rule["expr"] for rule in rules()))
    assert len(bold) > 10
    assert bold - ruled == set()
    assert ruled - known == set()


BAD = {  # figures of a system in every kind of trouble
    'asapp_build_info{version="0.2.0"}': "1",
    "asapp_database_up": "0",
    "asapp_redis_up": "0",
    "asapp_tick_age_seconds": "86400",
    "asapp_schedulers_alive": "0",
    "asapp_workers_alive": "0",
    "asapp_oldest_queued_run_seconds": "1000",
    "asapp_oldest_due_seconds": "400",
    "asapp_oldest_lead_due_seconds": "700",
    "asapp_oldest_opt_out_due_seconds": "3700",
    'asapp_runs_ended{outcome="failed"}': "20",
    'asapp_runs_ended{outcome="complete"}': "40",
    "asapp_sealed_values_without_key": "3",
    "asapp_tokens_near_expiry": "1",
    "asapp_opt_outs_unknown_soon": "1",
    "asapp_alert_mails_waiting": "1",
    "asapp_page_mails_waiting": "1",
    'asapp_run_duration_seconds_bucket{le="300"}': "10",
    'asapp_run_duration_seconds_bucket{le="900"}': "100",
    'asapp_run_duration_seconds_bucket{le="+Inf"}': "100",
}
WELL = {
    "asapp_database_up": "1",
    "asapp_redis_up": "1",
    "asapp_sealed_values_without_key": "0",
    "asapp_tick_age_seconds": "12",
    "asapp_schedulers_alive": "1",
    "asapp_workers_alive": "2",
    'asapp_runs_ended{outcome="failed"}': "20",
    'asapp_runs_ended{outcome="complete"}': "4000",
    'asapp_run_duration_seconds_bucket{le="300"}': "100",
    'asapp_run_duration_seconds_bucket{le="900"}': "100",
    'asapp_run_duration_seconds_bucket{le="+Inf"}': "100",
}
REQUESTS = 'asapp_http_requests_total{{endpoint="auth.login",status="{status}"}}'
TOOK = 'asapp_http_request_duration_seconds_bucket{{endpoint="auth.login",le="{le}"}}'


def case(figures: dict[str, str], growing: dict[str, int], firing: set[str]) -> dict[str, Any]:
    """Two hours with these figures; then exactly the alerts in `firing` are open."""
    series = [{"series": name, "values": f"{value}x120"} for name, value in figures.items()]
    series += [{"series": name, "values": f"0+{step}x120"} for name, step in growing.items()]
    return {
        "interval": "1m",
        "input_series": series,
        "promql_expr_test": [
            {
                "expr": f'count(ALERTS{{alertstate="firing",alertname="{name}"}}) or vector(0)',
                "eval_time": "2h",
                "exp_samples": [{"labels": "{}", "value": int(name in firing)}],
            }
            for name in (rule["alert"] for rule in rules())
        ],
    }


def test_each_rule_fires_in_its_trouble_and_none_while_all_is_well(tmp_path: Path) -> None:
    slow = {TOOK.format(le=le): step for le, step in (("2.5", 10), ("5.0", 300), ("+Inf", 300))}
    quick = {TOOK.format(le=le): 300 for le in ("0.1", "2.5", "+Inf")}
    every = {rule["alert"] for rule in rules()}
    cases = [
        case(
            BAD, {REQUESTS.format(status=500): 60, REQUESTS.format(status=200): 240, **slow}, every - {"AsappWebIsGone"}
        ),
        case({'asapp_build_info{version="0.2.0"}': "1", **WELL}, {REQUESTS.format(status=200): 300, **quick}, set()),
        case({}, {}, {"AsappWebIsGone"}),
    ]
    place = tmp_path / "cases.yml"
    place.write_text(yaml.safe_dump({"rule_files": [str(RULES)], "evaluation_interval": "1m", "tests": cases}))
    assert "SUCCESS" in promtool("test", "rules", str(place))


def panels() -> Iterator[dict[str, Any]]:
    yield from (panel for panel in DASHBOARD["panels"] if panel["type"] != "row")


def test_the_dashboard_asks_for_figures_that_exist(known: set[str], tmp_path: Path) -> None:
    expressions = [target["expr"] for panel in panels() for target in panel["targets"]]
    recorded = [{"record": f"panel:number:{number}", "expr": text} for number, text in enumerate(expressions)]
    place = tmp_path / "panels.yml"
    place.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": recorded}]}))
    promtool("check", "rules", str(place))  # each is PromQL
    shown = names_in(" ".join(expressions))
    assert shown - known == set()
    in_handbook = set(re.findall(r"^\| \**`(asapp_\w+)", HANDBOOK, re.MULTILINE))
    assert {name for name in in_handbook if not any(one.startswith(name) for one in shown)} == set()


def test_the_dashboards_panels_have_a_place_a_title_and_any_data_source() -> None:
    places = set()
    for panel in panels():
        place = panel["gridPos"]
        assert panel["title"]
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        assert place["x"] + place["w"] <= 24
        fields = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not fields & places, panel["title"]
        places |= fields
    identifiers = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(identifiers) == len(set(identifiers))
