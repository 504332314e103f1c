"""Settings: each is parsed, and a bad one is named in one line."""

from __future__ import annotations

import base64
import os
import subprocess
import sys
from pathlib import Path

import pytest

from config import HTMX_CDN_URL, Config, ConfigError, environ_with, secret_of_command

KEY = base64.urlsafe_b64encode(bytes(range(32))).decode()
OTHER_KEY = base64.urlsafe_b64encode(bytes(range(1, 33))).decode()
GOOD = {
    "SECRET_KEY": "abcdefghijklmnopqrstuvwxyz0123456789",
    "ENCRYPTION_KEYS": KEY,
    "DATABASE_URL": "postgresql+psycopg://asapp@db/asapp",
    "REDIS_URL": "redis://redis/0",
    "PUBLIC_URL": "https://my.advisorstream.example",
}


def read(**changes: str) -> Config:
    return Config.from_environment({**GOOD, **changes})


def complaint(**changes: str) -> str:
    with pytest.raises(ConfigError) as caught:
        read(**changes)
    text = str(caught.value)
    assert "\n" not in text
    return text


def test_five_settings_are_enough() -> None:
    config = read()
    assert config.htmx_url == HTMX_CDN_URL
    assert config.sync_interval_minutes == 15
    assert config.trusted_proxies == 0
    assert config.mail_url is None
    assert not config.salesforce_allow_loopback
    assert config.metrics_token is None
    assert config.require_second_factor
    assert (config.admin_idle_minutes, config.advisor_idle_minutes) == (30, 12 * 60)
    assert (config.admin_session_hours, config.advisor_session_hours) == (12, 7 * 24)
    assert config.is_https
    assert config.callback_url == "https://my.advisorstream.example/salesforce/salesforce_as/login/callback/"


def test_a_secret_may_be_in_a_file(tmp_path: Path) -> None:
    place = tmp_path / "secret"
    place.write_text(f"{GOOD['SECRET_KEY']}\n")
    assert read(SECRET_KEY="", SECRET_KEY_FILE=str(place)).secret_key == GOOD["SECRET_KEY"]
    place.write_text(f" {OTHER_KEY},{KEY}\n")
    assert len(read(ENCRYPTION_KEYS="", ENCRYPTION_KEYS_FILE=str(place)).encryption_keys) == 2
    place.write_text("smtp://mail.example.com\n")
    assert read(MAIL_URL_FILE=str(place)).mail_url == "smtp://mail.example.com"
    assert complaint(SECRET_KEY_FILE=str(place)) == "SECRET_KEY and SECRET_KEY_FILE are both set; leave one out"
    place.write_bytes(b"\xff\xfe")
    assert complaint(MAIL_URL_FILE=str(place)).endswith("can't be read: it is no text")
    place.write_text("short")
    assert complaint(SECRET_KEY="", SECRET_KEY_FILE=str(place)).startswith("SECRET_KEY must be a random text")
    place.unlink()
    assert (
        complaint(MAIL_URL_FILE=str(place))
        == f"MAIL_URL_FILE names {place}, which can't be read: No such file or directory"
    )


def test_a_program_that_gets_a_setting_does_not_get_its_file() -> None:
    ours = {"DATABASE_URL_FILE": "/run/secrets/database", "REDIS_URL_FILE": "/run/secrets/redis"}
    assert environ_with({"DATABASE_URL": "sqlite:///drill"}, ours) == {
        "DATABASE_URL": "sqlite:///drill",
        "REDIS_URL_FILE": "/run/secrets/redis",
    }


KEYLESS = {**GOOD, "SECRET_KEY": "", "ENCRYPTION_KEYS": "", "WITHOUT_KEYS": "1"}


@pytest.mark.slow
@pytest.mark.parametrize("command", [["worker.py"], ["-m", "gunicorn", "wsgi:app", "--bind", "127.0.0.1:0"]])
def test_what_needs_the_keys_does_not_start_without_them(command: list[str]) -> None:
    assert Config.from_environment(KEYLESS).encryption_keys == ()
    environ = {name: value for name, value in os.environ.items() if not name.endswith("_FILE")}
    answer = subprocess.run(
        [sys.executable, *command],
        cwd=Path(__file__).parents[2],
        env={**environ, **KEYLESS},
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == 1
    assert "asapp can't start: WITHOUT_KEYS=1 is for the scheduler, migrations and backups" in answer.stderr


PROVIDER = {"OIDC_ISSUER": "https://id.example/", "OIDC_CLIENT_ID": "asapp", "OIDC_CLIENT_SECRET": "a secret"}


def test_an_identity_provider_is_named_by_three_settings() -> None:
    assert read().identity_provider is None
    provider = read(**PROVIDER).identity_provider
    assert provider
    assert (provider.issuer, provider.client_id) == ("https://id.example/", "asapp")
    assert "a secret" not in repr(read(**PROVIDER))
    assert read().log_in_callback_url == "https://my.advisorstream.example/login/provider/callback"
    for name in PROVIDER:
        assert complaint(**PROVIDER | {name: " "}) == f"{name} is not set"
    for issuer in ("id.example", "http://id.example", "https://id.example/?a=1", "https://me@id.example"):
        assert complaint(**PROVIDER | {"OIDC_ISSUER": issuer}).startswith("OIDC_ISSUER must be")
    assert complaint(**PROVIDER | {"OIDC_ISSUER": "http://localhost:1"}).startswith("OIDC_ISSUER must be https")


@pytest.mark.parametrize("name", GOOD)
def test_each_of_them_is_missed(name: str) -> None:
    assert complaint(**{name: " "}) == f"{name} is not set"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SECRET_KEY", "short"),
        ("SECRET_KEY", "a" * 40),
        ("METRICS_TOKEN", "short"),
        ("METRICS_TOKEN", "not a token of sixteen"),
        ("ENCRYPTION_KEYS", "not base64!"),
        ("ENCRYPTION_KEYS", base64.urlsafe_b64encode(bytes(range(31))).decode()),
        ("ENCRYPTION_KEYS", base64.urlsafe_b64encode(b"a" * 32).decode()),
        ("ENCRYPTION_KEYS", f"{KEY},{KEY}"),
        ("ENCRYPTION_KEYS", ",,,,"),
        ("DATABASE_URL", "mysql://x"),
        ("DATABASE_URL", "postgresql://x"),
        ("REDIS_URL", "http://x"),
        ("PUBLIC_URL", "my.advisorstream.example"),
        ("PUBLIC_URL", "http://my.advisorstream.example"),
        ("PUBLIC_URL", "https://my.advisorstream.example/app"),
        ("PUBLIC_URL", "https://user@my.advisorstream.example"),
        ("PUBLIC_URL", "ftp://127.0.0.1"),
        ("TRUSTED_PROXIES", "-1"),
        ("TRUSTED_PROXIES", "eleven"),
        ("TRUSTED_PROXIES", "11"),
        ("HTMX_URL", "http://cdn.example/htmx.js"),
        ("HTMX_URL", "//cdn.example/htmx.js"),
        ("HTMX_URL", "https://cdn.example/htmx.js; script-src *"),
        ("HTMX_URL", "https://cdn.example/htmx.js#md5-abc"),
        ("MAIL_URL", "https://mail.example"),
        ("SALESFORCE_ALLOW_LOOPBACK", "yes"),
        ("SYNC_INTERVAL_MINUTES", "1"),
        ("ADMIN_IDLE_MINUTES", "4"),
        ("ADVISOR_IDLE_MINUTES", "20000"),
        ("ADMIN_SESSION_HOURS", "0"),
        ("ADVISOR_SESSION_HOURS", "soon"),
        ("SYNC_INTERVAL_MINUTES", "12.5"),
    ],
)
def test_a_bad_value_is_named_and_not_repeated(name: str, value: str) -> None:
    text = complaint(**{name: value})
    assert text.startswith(f"{name} must ")
    if name in ("SECRET_KEY", "ENCRYPTION_KEYS", "DATABASE_URL"):
        assert value not in text


def test_a_loopback_org_goes_only_with_a_loopback_public_url() -> None:
    assert "loopback PUBLIC_URL" in complaint(SALESFORCE_ALLOW_LOOPBACK="1")
    assert read(SALESFORCE_ALLOW_LOOPBACK="1", PUBLIC_URL="http://127.0.0.1:5000").salesforce_allow_loopback


@pytest.mark.parametrize("url", ["http://127.0.0.1:5000", "http://localhost:5000", "http://[::1]:5000"])
def test_http_is_for_loopback(url: str) -> None:
    assert not read(PUBLIC_URL=url).is_https


@pytest.mark.parametrize("url", ["http://127.0.0.1.evil.example", "http://localhost.evil.example", "http://0.0.0.0"])
def test_what_looks_like_loopback_is_not(url: str) -> None:
    assert complaint(PUBLIC_URL=url).startswith("PUBLIC_URL must be https")


def test_several_keys_newest_first() -> None:
    assert read(ENCRYPTION_KEYS=f"{OTHER_KEY}, {KEY}").encryption_keys == (bytes(range(1, 33)), bytes(range(32)))


@pytest.mark.parametrize("name", ["TESTING", "FLASK_TESTING"])
def test_no_setting_makes_a_process_believe_it_is_tested(name: str) -> None:
    assert read(**{name: "1"}).testing is False


def test_secrets_are_not_in_its_representation() -> None:
    shown = repr(read(MAIL_URL="smtps://user:hush@mail.example:465"))
    for value in (GOOD["SECRET_KEY"], KEY, GOOD["DATABASE_URL"], "hush"):
        assert value not in shown


def test_an_empty_secret_of_a_command_is_none() -> None:
    assert secret_of_command("ASAPP_PASSWORD", {"ASAPP_PASSWORD": ""}) is None
    assert secret_of_command("ASAPP_PASSWORD", {"ASAPP_PASSWORD": " x "}) == " x "


def test_the_start_stops_with_one_clear_line() -> None:
    root = Path(__file__).resolve().parents[2]
    bare = {"PATH": os.environ["PATH"], **GOOD, "PUBLIC_URL": "http://my.advisorstream.example"}
    started = subprocess.run(
        [sys.executable, "-c", "import wsgi"], cwd=root, env=bare, capture_output=True, text=True, check=False
    )
    assert started.returncode == 1
    assert started.stderr.strip().startswith("asapp can't start: PUBLIC_URL must be https")
    assert "\n" not in started.stderr.strip()


def test_the_second_step_of_admins_is_left_out_on_this_machine_alone() -> None:
    assert not read(REQUIRE_SECOND_FACTOR="0", PUBLIC_URL="http://127.0.0.1:5000").require_second_factor
    assert "REQUIRE_SECOND_FACTOR=0 goes only with a loopback PUBLIC_URL" in complaint(REQUIRE_SECOND_FACTOR="0")
    assert "REQUIRE_SECOND_FACTOR must be 0 or 1" in complaint(REQUIRE_SECOND_FACTOR="yes")
