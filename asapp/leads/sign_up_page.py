"""An advisor's sign-up page: its address, its words in versions, which sites may show it in a frame, and how many it takes.

A page takes so many new people a day. Who comes beyond is stored like everybody else and waits until the advisor has looked.
The count stands in the page's own row, under whose lock people sign up, so that any number of web processes agree.
"""

from __future__ import annotations

import re
import unicodedata
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import func, select

from asapp.core.clock import utcnow
from asapp.core.database import insert_ignore, writing
from asapp.core.extensions import db
from asapp.leads.form_fields import HEADING_MAX, PageForm
from asapp.models import ConsentText, OptInPage, Review, User

SLUG_MAX = 60
DAY = timedelta(days=1)  # of the limit: it begins with its first person


def find_page(slug: str) -> OptInPage | None:
    """Return the page at an address; None too if its advisor can't log in any more."""
    page = db.session.scalar(select(OptInPage).where(OptInPage.slug == slug))
    return page if page is not None and page.user.is_active else None


def find_frame_hosts(slug: str) -> str:
    """Return the sites that may show the page at an address, whether or not its advisor can log in; "" for none."""
    return db.session.scalar(select(OptInPage.frame_hosts).where(OptInPage.slug == slug)) or ""


def ensure_page(user: User) -> OptInPage:
    """Return the advisor's page. It is made with the advisor; for one who came before there were pages, now. Commits then."""
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
    """Make the page and the first version of its words, where they are missing, in the caller's transaction."""
    wanted = slug_of(user.name)
    taken = set(db.session.scalars(select(OptInPage.slug).where(OptInPage.slug.startswith(wanted))))
    slug = next(slug for slug in _numbered(wanted) if slug not in taken)
    made = db.session.execute(
        insert_ignore(db.session, OptInPage).values(user_id=user.id, slug=slug).returning(OptInPage.id)
    )
    if made.first() is None and _page_of(user.id) is None:  # the address was taken at this very moment
        db.session.execute(insert_ignore(db.session, OptInPage).values(user_id=user.id, slug=f"{wanted}-{user.id}"))
    heading, words = first_words(user)
    stored = {name.removesuffix("_stored"): part for name, part in _stored(user, heading, words).items()}
    columns = {"user_id": user.id, "version": 1, "created_at": utcnow(), **stored}
    db.session.execute(insert_ignore(db.session, ConsentText.__table__).values(columns))


def first_words(user: User) -> tuple[str, str]:
    """Return heading and consent. The consent doesn't say "email": the field of that name is to be the only one."""
    senders = f"{user.name} and {user.partner.name}" if user.partner else user.name
    return (
        f"Letters from {user.name}"[:120],
        f"Yes, {senders} may write to me. I can stop this at any time with the link in every letter.",
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
    """Store what the advisor changed; new words make a new version. Raise InvalidFields. Commits.

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
    """Count a new person in the page's day; return why this one waits for the advisor, or None. The page is locked.

    While the page is paused nobody is counted: that would use up the day after the pause.
    """
    if page.is_paused:
        return Review.PAGE_PAUSED
    if page.day_began_at is None or page.day_began_at <= now - DAY:
        begin_day(page, now)
    page.people_that_day += 1
    return Review.OVER_LIMIT if page.people_that_day > page.daily_limit else None


def begin_day(page: OptInPage, now: datetime) -> None:
    """Count from zero again, in the caller's transaction."""
    page.day_began_at, page.people_that_day = now, 0


def change_firm(user_id: int, old_name: str, new_name: str) -> None:
    """Where the words name the firm that the advisor has left, let a new version name the new one. Joins the transaction."""
    text = db.session.scalar(
        select(ConsentText).where(ConsentText.user_id == user_id).order_by(ConsentText.version.desc()).limit(1)
    )
    if text is None:
        return
    heading, words = (part.replace(old_name, new_name) for part in (text.heading_stored, text.words_stored))
    if (heading, words) != (text.heading_stored, text.words_stored):
        parts = {"heading_stored": heading[:HEADING_MAX], "words_stored": words}
        db.session.add(ConsentText(user_id=user_id, version=text.version + 1, **parts))


def _stored(user: User, heading: str, words: str) -> dict[str, str]:
    """Return what is kept of a page's words: they are append-only, and whoever wrote them can be erased."""
    return {
        "heading_stored": ConsentText.stored(heading, user.name),
        "words_stored": ConsentText.stored(words, user.name),
    }


def slug_of(name: str) -> str:
    """`Amara Okafor` -> `amara-okafor`; what has no Latin letters gets a plain word."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:SLUG_MAX] or "letters"


def _numbered(slug: str) -> Any:
    yield slug
    yield from (f"{slug}-{number}" for number in range(2, 10**6))


def _page_of(user_id: int) -> OptInPage | None:
    return db.session.scalar(select(OptInPage).where(OptInPage.user_id == user_id))
