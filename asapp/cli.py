"""Commands: `flask --app wsgi users|partners|api-keys|…`. An error is one line and an exit code other than 0."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from inspect import signature
from pathlib import Path
from typing import NoReturn

import click
import psycopg
from flask import Flask
from flask.cli import AppGroup
from sqlalchemy.exc import OperationalError, ProgrammingError

from asapp.accounts import advisors, api_keys, key_rotation, mailbox_proof, provider_log_in, second_factor, users
from asapp.audit.entries import COMMAND
from asapp.core import backup, mail
from asapp.core.clock import utcnow
from asapp.core.database import writing
from asapp.core.extensions import db
from asapp.core.formats import counted
from asapp.core.forms import InvalidFields
from asapp.core.logs import log_what_ends_us
from asapp.health.heartbeats import SCHEDULER, WORKER, Heart, is_seen_here
from asapp.jobs.task_job import TASKS, NotATask, find_task
from asapp.jobs.tick_scheduler import run_scheduler
from asapp.models import Partner, Role, Scope, User
from asapp.partners import erasure, partners
from asapp.partners.erasure import StillNeeded
from asapp.partners.form_fields import PartnerForm
from asapp.web.current import config, org_access, post_later, vault
from config import environ_with, secret_of_command


class Commands(AppGroup):
    """Commands that may write, and report database errors in one line."""

    def invoke(self, ctx: click.Context) -> object:
        try:
            with writing():
                return super().invoke(ctx)
        except (OperationalError, ProgrammingError) as error:
            reason = str(error.orig).strip().splitlines()[0]
            remedy = " Has `flask db upgrade` run?" if lacks_tables(error.orig) else ""
            raise click.ClickException(f"The database can't do that: {reason.rstrip('.')}.{remedy}") from None


def lacks_tables(error: BaseException | None) -> bool:
    """Is a table or column missing? SQLite has no code of its own for that, but the one of a statement it can't run."""
    is_undefined = isinstance(error, psycopg.errors.UndefinedTable | psycopg.errors.UndefinedColumn)
    return is_undefined or getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_ERROR


users_group = Commands("users", help="People who log in.")
partners_group = Commands("partners", help="Firms whose Salesforce org is set up here.")
api_keys_group = Commands("api-keys", help="Keys with which senders speak to the API.")
keys_group = Commands("keys", help="The keys that encrypt secrets and tokens (ENCRYPTION_KEYS).")


class BackupCommands(AppGroup):
    """Commands about the database as a whole; what is wrong is one line."""

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except (backup.BackupError, psycopg.OperationalError) as error:
            raise click.ClickException(" ".join(str(error).split())) from None
        except OperationalError as error:
            raise click.ClickException(" ".join(str(error.orig).split())) from None


backup_group = BackupCommands("backup", help="Backups of the database: make one, try one, restore one.")


def register(app: Flask) -> None:
    for group in (users_group, partners_group, api_keys_group, keys_group, backup_group):
        app.cli.add_command(group)
    app.cli.add_command(scheduler)
    app.cli.add_command(seen)
    app.cli.add_command(job)


@users_group.command("create")
@click.argument("email")
@click.option("--name", required=True, help="As others see it.")
@click.option("--role", required=True, type=click.Choice([role.value for role in Role]))
@click.option("--partner", "slug", metavar="SLUG", help="The firm of an advisor.")
def create_user(email: str, name: str, role: str, slug: str | None) -> None:
    """Add a person. The password comes from the prompt, or from ASAPP_PASSWORD."""
    partner = get_partner(slug) if slug else None
    if role == Role.ADVISOR and partner is None:
        raise click.ClickException("An advisor belongs to a partner: add --partner SLUG.")
    if role == Role.ADMIN and partner is not None:
        raise click.ClickException("An admin belongs to no partner: leave --partner out.")
    try:
        user = users.create_user(email, name, ask_password(), Role(role), partner, COMMAND)
    except InvalidFields as refusal:
        fail(refusal)
    click.echo(f"{user.email} can log in.", err=True)
    if user.is_admin and config().require_second_factor:
        print_set_up_link(user)


@users_group.command("erase")
@click.argument("email")
@click.option("--yes", is_flag=True, help="Don't ask.")
def erase_user(email: str, yes: bool) -> None:
    """Erase a person for good: an account with everything in it, or a firm's Salesforce admin who was sent a setup link."""
    user, guests = users.find_by_email(email), erasure.find_guests(email)
    if user is None and not guests:
        raise click.ClickException("No one has this address.")
    if user is not None and user.is_advisor:
        click.echo("The advisor's contacts, lists and sign-ups go too. Nothing is deleted in Salesforce.", err=True)
    if not yes:
        click.confirm("Erase this person? It can't be undone", abort=True, err=True)
    try:
        if user is not None:
            erasure.erase_account(user, org_access(), COMMAND)
    except StillNeeded as reason:
        raise click.ClickException(str(reason)) from None
    for guest in erasure.find_guests(email):
        erasure.erase_guest(guest, COMMAND)
    click.echo("Erased.", err=True)


@users_group.command("list")
def list_users() -> None:
    """List the people who have an account: address, name, role, firm, state, second step."""
    for user in users.list_people():
        state = "deactivated" if not user.is_active else "invited" if user.invited_at else "active"
        second = "second step" if user.has_second_factor else "no second step"
        firm = user.partner.slug if user.partner else "-"
        click.echo(f"{user.email}\t{user.name}\t{user.role}\t{firm}\t{state}\t{second}")


@users_group.command("set-email")
@click.argument("email")
@click.argument("new")
def set_email(email: str, new: str) -> None:
    """Let a person log in with another address. Both addresses are told by mail."""
    user = get_user(email)
    try:
        before = users.set_email(user, new, COMMAND)
    except InvalidFields as refusal:
        fail(refusal)
    names = {"name": user.name, "new": user.email}
    post_later(
        *(mail.write(to, "Your address at AdvisorStream", "email_changed", **names) for to in (before, user.email))
    )
    click.echo(f"{user.email} logs in with this address now.", err=True)


@users_group.command("set-password")
@click.argument("email")
def set_password(email: str) -> None:
    """Set a person's password and log the person out everywhere. It comes from the prompt, or from ASAPP_PASSWORD."""
    user = get_user(email)
    try:
        users.set_password(user, ask_password(), COMMAND)
    except InvalidFields as refusal:
        fail(refusal)
    click.echo(f"The password of {user.email} is set.", err=True)


@users_group.command("deactivate")
@click.argument("email")
def deactivate_user(email: str) -> None:
    """Log a person out for good; an advisor is disconnected from Salesforce as well. Nothing is deleted."""
    user = get_user(email)
    if not user.is_active:
        raise click.ClickException(f"{user.email} is deactivated already.")
    if users.is_only_admin(user):
        raise click.ClickException("This is the only admin. Make another one first.")
    advisors.deactivate(user, org_access(), COMMAND)
    click.echo(f"{user.email} is deactivated.", err=True)


@users_group.command("let-back-in")
@click.argument("email")
def let_back_in(email: str) -> None:
    """Let a person who was deactivated log in again, with the password of before."""
    user = get_user(email)
    if user.is_active or user.is_emptied:
        raise click.ClickException(f"{user.email} is not deactivated.")
    advisors.let_back_in(user, COMMAND)
    click.echo(f"{user.email} can log in again.", err=True)


@users_group.command("reset-second-step")
@click.argument("email")
def reset_second_step(email: str) -> None:
    """Take a person's second step away, passkeys too, and tell them by mail. Make sure first that it is this person who asks."""
    user = get_user(email)
    if not second_factor.reset(user, COMMAND):
        raise click.ClickException(f"{user.email} has no second step.")
    post_later(second_factor.reset_letter(user, "An operator of AdvisorStream"))
    click.echo(f"The second step of {user.email} is reset; a mail says so.", err=True)


@users_group.command("set-up-link")
@click.argument("email")
def set_up_link(email: str) -> None:
    """Print the link that opens the set-up of an admin's second step, where no mail can bring it. For that admin alone."""
    user = get_user(email)
    if not user.is_admin:
        raise click.ClickException("Only admins need one: an advisor's second step is set up under Security.")
    if user.has_second_factor:
        raise click.ClickException(f"{user.email} has a second step. If it is lost: users reset-second-step.")
    print_set_up_link(user)


@users_group.command("allow-password")
@click.argument("email")
@click.option("--withdraw", is_flag=True, help="Take it back.")
def allow_password(email: str, withdraw: bool) -> None:
    """Let an admin log in with a password beside the identity provider (OIDC_ISSUER), for the day that it is away."""
    user = get_user(email)
    if not user.is_admin:
        raise click.ClickException("Only admins may have a password beside the identity provider.")
    provider_log_in.allow_password(user, not withdraw, COMMAND)
    click.echo(f"{user.email} {'may no longer' if withdraw else 'may'} log in with a password.", err=True)


@users_group.command("unlink")
@click.argument("email")
def unlink_user(email: str) -> None:
    """Let another log-in at the identity provider take this person's account. Make sure first that it is this person."""
    user = get_user(email)
    if not provider_log_in.unlink(user, COMMAND):
        raise click.ClickException(f"{user.email} has not logged in with an identity provider.")
    click.echo(f"The next log-in with the verified address {user.email} is linked.", err=True)


@partners_group.command("create")
@click.argument("name")
@click.option("--url", required=True, help="Any address from the firm's Salesforce.")
@click.option("--key", required=True, help="Consumer Key of the firm's app.")
def create_partner(name: str, url: str, key: str) -> None:
    """Add a partner and print its slug. The Consumer Secret comes from the prompt, or from ASAPP_CONSUMER_SECRET."""
    secret = secret_of_command("ASAPP_CONSUMER_SECRET") or click.prompt("Consumer Secret", hide_input=True, err=True)
    try:
        form = PartnerForm.entered(name=name, url=url, key=key, secret=secret)
        partner = partners.create_partner(form, org_access(), COMMAND)
    except InvalidFields as refusal:
        fail(refusal)
    click.echo(f"Stored with {partner.salesforce_url}.", err=True)
    click.echo(partner.slug)


@api_keys_group.command("create")
@click.argument("label")
@click.option("--scope", "scopes", multiple=True, required=True, type=click.Choice([scope.value for scope in Scope]))
@click.option("--partner", "slug", metavar="SLUG", help="The one firm whose people it sees; else those of every firm.")
@click.option("--last-day", metavar="YYYY-MM-DD", help="It works to the end of this day, by UTC; else it has no end.")
def create_api_key(label: str, scopes: tuple[str, ...], slug: str | None, last_day: str | None) -> None:
    """Make a key and print it; it is not shown again."""
    partner = get_partner(slug) if slug else None
    try:
        expires_at = api_keys.end_of_day(last_day) if last_day else None
        key = api_keys.make_key(label, [Scope(scope) for scope in scopes], partner, expires_at, COMMAND)
    except ValueError as problem:
        raise click.ClickException(str(problem)) from None
    except InvalidFields as refusal:
        fail(refusal)
    click.echo(f"Stored for {partner.name if partner else 'every firm'}. The key is not shown again.", err=True)
    click.echo(key)


@api_keys_group.command("list")
def list_api_keys() -> None:
    """List the keys, each with the ID that `revoke` takes."""
    now = utcnow()
    for key in api_keys.list_keys():
        state = "revoked" if key.revoked_at else "in use" if key.is_valid(now) else "expired"
        firm = key.partner.slug if key.partner else "every firm"
        used = f"last used {key.last_used_at:%Y-%m-%d %H:%M} UTC" if key.last_used_at else "never used"
        click.echo(f"{key.public_id}  …{key.ends_with}  {key.label}  ({key.scopes}; {firm}; {state}; {used})")


@api_keys_group.command("revoke")
@click.argument("key_id", metavar="ID")
def revoke_api_key(key_id: str) -> None:
    """Revoke a key, at once and for good."""
    key = api_keys.find_key(key_id)
    if key is None:
        raise click.ClickException(f"There is no key {key_id!r}; `api-keys list` shows them.")
    api_keys.revoke(key, COMMAND)
    click.echo("Revoked.", err=True)


@keys_group.command("status")
def key_status() -> None:
    """Count what is encrypted, by column and key."""
    known = vault().key_ids
    click.echo(f"Keys here, newest first: {', '.join(known)}")
    for column, used in key_rotation.count_by_key().items():
        for key, count in sorted(used.items()):
            remark = "newest" if key == vault().newest_key_id else "older" if key in known else "NOT HERE"
            click.echo(f"{column}: {count:,} under {key} ({remark})")


@keys_group.command("rotate")
@click.option("--dry-run", is_flag=True, help="Only count.")
def rotate_keys(dry_run: bool) -> None:
    """Re-encrypt everything with the newest key. Safe while the system runs, and as often as you like."""
    if dry_run:
        click.echo(f"{key_rotation.count_outdated(vault()):,} to re-encrypt.")
        return
    result = key_rotation.rotate(vault(), COMMAND)
    click.echo(f"{result.renewed:,} re-encrypted, {result.overtaken:,} changed in the meantime.")
    if result.unreadable:
        listed = ", ".join(f"{column} {count:,}" for column, count in sorted(result.unreadable.items()))
        raise click.ClickException(f"Left as they are, since no key here opens them: {listed}")


@backup_group.command("make")
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
def make_backup(folder: Path) -> None:
    """Write a backup into FOLDER and print its path. Everything may go on running."""
    click.echo(backup.make(config().database_url, folder, utcnow()))


@backup_group.command("drill")
@click.argument("file", type=click.Path(path_type=Path))
def drill(file: Path) -> None:
    """Restore FILE, or the newest backup in the folder FILE, into a database beside yours; upgrade it, and try the keys."""
    if file.is_dir():
        file = backup.find_newest(file)
    with backup.scratch_database(config().database_url) as scratch:
        backup.restore(file, scratch, replace=False)
        run_flask(scratch, "db", "upgrade")
        people = run_flask(scratch, "users", "list").splitlines()
        sealed = run_flask(scratch, "keys", "status")
    if "NOT HERE" in sealed:
        raise click.ClickException("It can be restored, but was sealed with a key that is not in ENCRYPTION_KEYS.")
    if not people:
        raise click.ClickException("It can be restored, but there is no one in it.")
    click.echo(f"{file} can be restored: {counted(len(people), 'person', 'people')}, and every key is here.", err=True)


@backup_group.command("restore")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--replace", is_flag=True, help="Delete what is in the database first.")
def restore_backup(file: Path, replace: bool) -> None:
    """Fill the database from FILE. Stop web, workers and scheduler before."""
    db.engine.dispose()
    backup.restore(file, config().database_url, replace=replace)
    click.echo("Restored. Now: flask --app wsgi db upgrade, then start everything.", err=True)


def run_flask(database_url: str, *words: str) -> str:
    """Return what a command prints when it works on another database."""
    answer = subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-m", "flask", "--app", "wsgi", *words],
        env=environ_with({"DATABASE_URL": database_url}),
        capture_output=True,
        text=True,
        check=False,
    )
    if answer.returncode != 0:
        raise backup.BackupError(f"{' '.join(words)} failed: {(answer.stderr.strip() or 'no reason').splitlines()[-1]}")
    return answer.stdout


@click.command("scheduler")
def scheduler() -> None:
    """Keep the dispatch tick alive (rq-scheduler). A second one stands by."""
    log_what_ends_us()
    run_scheduler(config().redis_url, Heart(db.engine, SCHEDULER))


@click.command("seen")
@click.argument("kind", type=click.Choice([SCHEDULER, WORKER]))
def seen(kind: str) -> None:
    """Fail unless a process of this kind was seen on this host a moment ago; for a container's health check."""
    if not is_seen_here(db.session(), kind, utcnow()):
        raise click.ClickException(f"No {kind} was seen here within the last two minutes.")


@click.command("job")
@click.argument("name")
@click.argument("ids", nargs=-1, type=int)
def job(name: str, ids: tuple[int, ...]) -> None:
    """Run a job here and now, as a worker would: `flask --app wsgi job run_sync 42`. The README lists the jobs."""
    try:
        task = find_task(f"{TASKS}.{name}")
    except NotATask:
        raise click.ClickException(f"There is no job {name!r}.") from None
    try:
        signature(task).bind(*ids)
    except TypeError:
        expected = " ".join(name.upper() for name in signature(task).parameters)
        raise click.ClickException(f"This job is started as: job {name} {expected}".rstrip()) from None
    task(*ids)


def ask_password() -> str:
    return secret_of_command("ASAPP_PASSWORD") or str(
        click.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
    )


def print_set_up_link(user: User) -> None:
    """Print a link for the set-up of a second step, as the only line on stdout."""
    token = mailbox_proof.make_link(user, COMMAND)
    click.echo("For setting up the second step, after the log-in; it works once, for 15 minutes:", err=True)
    click.echo(mailbox_proof.url_of(token, config().public_url))


def get_user(email: str) -> User:
    user = users.find_by_email(email)
    if user is None:
        raise click.ClickException("No one has this address.")
    return user


def get_partner(slug: str) -> Partner:
    partner = partners.find_partner(slug)
    if partner is None:
        raise click.ClickException(f"There is no partner {slug!r}.")
    return partner


def fail(refusal: InvalidFields) -> NoReturn:
    raise click.ClickException(" ".join(f"{field}: {words}" for field, words in refusal.errors.items()))
