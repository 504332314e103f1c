"""An advisor's sign-up page: its address, its text in versions, the sites that may show it in a frame, and its daily
limit.

A page takes a set number of new people a day. Those beyond it are stored too and wait until the advisor has looked. The
count is in the page's own row, which each sign-up locks, so that it is right for any number of web processes.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.orm import aliased

from asapp.core.clock import utcnow
from asapp.core.database import insert_ignore, writing
from asapp.core.extensions import db
from asapp.leads.form_fields import HEADING_MAX, PageForm
from asapp.models import ConsentText, OptInPage, Review, User
from asapp.models.lead import ADVISOR, replace_name

SLUG_MAX = 60
DAY = timedelta(days=1)  # of the limit; it begins with the first person


def find_page(slug: str) -> OptInPage | None:
    """Return the page at an address; None too if its advisor can't log in."""
    page = db.session.scalar(select(OptInPage).where(OptInPage.slug == slug))
    return page if page is not None and page.user.is_active else None


def find_frame_hosts(slug: str) -> str:
    """Return the sites that may show the page at an address, whether or not its advisor can log in; "" for none."""
    return db.session.scalar(select(OptInPage.frame_hosts).where(OptInPage.slug == slug)) or ""


def ensure_page(user: User) -> OptInPage:
    """Return the advisor's page, which is made with the advisor; for an advisor without one, make it now and commit."""
    page = _page_of(user.id)
    if page is None:
        db.session.rollback()
        with writing():
            add_page(user)
            db.session.commit()
        page = _page_of(user.id)
    if page is None:
        raise LookupError("the page was not made")
    return page


def add_page(user: User) -> None:
    """Add the page and the first version of its text where they are missing, in the caller's transaction."""
    wanted = slug_of(user.name)
    taken = set(db.session.scalars(select(OptInPage.slug).where(OptInPage.slug.startswith(wanted))))
    slug = next(slug for slug in _numbered(wanted) if slug not in taken)
    made = db.session.execute(
        insert_ignore(db.session, OptInPage).values(user_id=user.id, slug=slug).returning(OptInPage.id)
    )
    if made.first() is None and _page_of(user.id) is None:  # another process has just taken the address
        db.session.execute(insert_ignore(db.session, OptInPage).values(user_id=user.id, slug=f"{wanted}-{user.id}"))
    heading, words = first_words(user)
    stored = {name.removesuffix("_stored"): part for name, part in _stored(user, heading, words).items()}
    columns = {"user_id": user.id, "version": 1, "created_at": utcnow(), **stored}
    db.session.execute(insert_ignore(db.session, ConsentText.__table__).values(columns))


def first_words(user: User) -> tuple[str, str]:
    """Return heading and consent. The consent avoids the word "email", so that only one field is labelled with it."""
    senders = f"{user.name} and {user.partner.name}" if user.partner else user.name
    return (
        f"Emails from {user.name}"[:120],
        f"Yes, {senders} may write to me. I can stop this at any time with the link in every message.",
    )


def current_text(user_id: int) -> ConsentText:
    return db.session.scalars(
        select(ConsentText).where(ConsentText.user_id == user_id).order_by(ConsentText.version.desc()).limit(1)
    ).one()


def find_text(user_id: int, text_id: int) -> ConsentText | None:
    return db.session.scalar(select(ConsentText).where(ConsentText.user_id == user_id, ConsentText.id == text_id))


def all_texts(user_id: int) -> list[ConsentText]:
    """Return every version, newest first."""
    return list(
        db.session.scalars(
            select(ConsentText).where(ConsentText.user_id == user_id).order_by(ConsentText.version.desc())
        )
    )


def save_page(
    page: OptInPage, heading: str, words: str, frame_hosts: str, daily_limit: str | None = None
) -> ConsentText:
    """Store what the advisor changed; changed text makes a new version. Raise InvalidFields. Commits.

    daily_limit: as typed; None leaves it as it is.
    """
    entered = {"heading": heading, "words": words, "frame_hosts": frame_hosts, "daily_limit": daily_limit}
    clean = PageForm.entered(**{name: typed for name, typed in entered.items() if typed is not None}).checked()
    heading, words, limit = clean["heading"], clean["words"], clean["daily_limit"]
    db.session.refresh(page, with_for_update=True)  # two tabs make two versions, one after the other
    text = current_text(page.user_id)
    if (text.heading, text.words) != (heading, words):
        newest = (
            db.session.scalar(select(func.max(ConsentText.version)).where(ConsentText.user_id == page.user_id)) or 0
        )
        text = ConsentText(user_id=page.user_id, version=newest + 1, **_stored(page.user, heading, words))
        db.session.add(text)
    page.frame_hosts, page.daily_limit, page.changed_at = clean["frame_hosts"], limit or page.daily_limit, utcnow()
    db.session.commit()
    return text


def pause(page: OptInPage) -> None:
    """Take no more sign-ups until the advisor resumes. Commits."""
    db.session.refresh(page, with_for_update=True)
    page.paused_at = page.paused_at or utcnow()
    db.session.commit()


def resume(page: OptInPage) -> None:
    """Take sign-ups again. Commits."""
    db.session.refresh(page, with_for_update=True)
    page.paused_at = None
    db.session.commit()


def lock(user_id: int) -> OptInPage:
    """Return the page as it is stored now, locked until the caller's transaction ends."""
    query = select(OptInPage).where(OptInPage.user_id == user_id).with_for_update()
    return db.session.scalars(query.execution_options(populate_existing=True)).one()


def add_to_day(page: OptInPage, now: datetime) -> Review | None:
    """Count a new person in the page's day; return why this one waits for review, or None. The page is locked.

    While the page is paused no one is counted, so that the people waiting don't use up the day after the pause.
    """
    if page.is_paused:
        return Review.PAGE_PAUSED
    if page.day_began_at is None or page.day_began_at <= now - DAY:
        begin_day(page, now)
    page.people_that_day += 1
    return Review.OVER_LIMIT if page.people_that_day > page.daily_limit else None


def begin_day(page: OptInPage, now: datetime) -> None:
    """Start the count again, in the caller's transaction."""
    page.day_began_at, page.people_that_day = now, 0


def change_name(user: User, new_name: str) -> None:
    """Set the advisor's name; a text that shows it gets a new version, and the older ones keep the name that they showed.

    Joins the transaction. Locks the person and the page.
    """
    db.session.execute(select(User.id).where(User.id == user.id).with_for_update(key_share=True))
    db.session.refresh(user, ["name", "earlier_names"])
    if user.name == new_name:
        return
    for text in _lock_texts(User.id == user.id):
        user.earlier_names = [*user.earlier_names, (text.version, user.name)]
        if ADVISOR in text.heading_stored + text.words_stored:
            _add_version(text, text.heading_stored, text.words_stored)
    user.name = new_name


def change_firm(which: ColumnElement[bool], old_name: str, new_name: str) -> None:
    """Add a version that names the new firm to the text of each of these advisors that names the old one.

    Joins the transaction. Locks the pages.
    """
    for text in _lock_texts(which):
        heading, words = (replace_name(part, old_name, new_name) for part in (text.heading_stored, text.words_stored))
        if (heading, words) != (text.heading_stored, text.words_stored):
            _add_version(text, heading[:HEADING_MAX], words)


def _lock_texts(which: ColumnElement[bool]) -> Sequence[ConsentText]:
    """Lock the pages of these advisors, so that no other version comes between; return the current texts."""
    pages = select(OptInPage.user_id).join(User, User.id == OptInPage.user_id).where(which)
    db.session.execute(pages.order_by(OptInPage.user_id).with_for_update(of=OptInPage)).all()
    each = aliased(ConsentText)
    newest = select(func.max(each.version)).where(each.user_id == User.id).scalar_subquery()
    query = select(ConsentText).join(User, User.id == ConsentText.user_id).where(which, ConsentText.version == newest)
    return db.session.scalars(query.order_by(ConsentText.user_id)).all()


def _add_version(text: ConsentText, heading: str, words: str) -> None:
    """Add a version after this one, in the caller's transaction. heading, words: as they are stored."""
    parts = {"heading_stored": heading, "words_stored": words}
    db.session.add(ConsentText(user_id=text.user_id, version=text.version + 1, **parts))


def _stored(user: User, heading: str, words: str) -> dict[str, str]:
    """Return what is stored of a page's text, without the author: versions are append-only, and authors can be
    erased."""
    return {
        "heading_stored": ConsentText.stored(heading, user.name),
        "words_stored": ConsentText.stored(words, user.name),
    }


def slug_of(name: str) -> str:
    """Return `amara-okafor` for `Amara Okafor`; a name without Latin letters gets a plain word."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:SLUG_MAX] or "sign-up"


def _numbered(slug: str) -> Any:
    yield slug
    yield from (f"{slug}-{number}" for number in range(2, 10**6))


def _page_of(user_id: int) -> OptInPage | None:
    return db.session.scalar(select(OptInPage).where(OptInPage.user_id == user_id))
