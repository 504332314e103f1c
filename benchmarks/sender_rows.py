"""What stands in a database before senders are measured: `python -m benchmarks.sender_rows JOB '{…}'` prints a line of JSON.

An advisor with a list of as many recipients as asked for, and one in forty more who opted out, half of them here as well.
"""

from __future__ import annotations

import json
import sys
from base64 import urlsafe_b64decode
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from benchmarks.ours import job_app, measured

NAMES = ("Zoë", "Mei-Ling", "O'Neil", "Łukasz", "Anna", "José", "Priya", "Robert")


def prepare(contacts: int, links: int, **_rest: Any) -> dict[str, Any]:
    """Return what calls need: key, list, advisor, addresses; links to unsubscribe with; what the floor signs with."""
    from flask_migrate import upgrade

    from asapp import create_app
    from asapp.accounts import api_keys
    from asapp.audit.entries import COMMAND
    from asapp.contacts import lists
    from asapp.contacts.addresses import address_hash, address_key
    from asapp.contacts.unsubscribe_links import SIGNED_BYTES, LinkMaker, link_key
    from asapp.core.clock import utcnow
    from asapp.core.database import writing
    from asapp.core.extensions import db
    from asapp.leads import sign_up_page
    from asapp.models import Scope
    from devtools.makers import make_advisor, make_connection, make_partner

    app, now = create_app(), utcnow()
    vault = app.extensions["asapp.vault"]
    with app.app_context(), writing():
        upgrade()
        partner = make_partner()
        advisor = make_advisor(partner)
        known = {"opt_outs_known_until": now + timedelta(days=7), "leads_known_until": now + timedelta(days=7)}
        connection = make_connection(advisor, last_good_sync_at=now, first_synced_at=now, **known)
        hash_key, sign_key = address_key(db.session(), partner, vault), link_key(db.session(), partner, vault)
        lists.ensure_system_lists(advisor.id)
        emails = [f"person.{n}@fjord{n % 97}.example" for n in range(contacts)]
        add_contacts(connection, emails, hash_key)
        db.session.commit()
        maker = LinkMaker(partner, advisor, sign_key, "")
        leavers = [address_hash(f"leaver.{n}@fjord.example", hash_key) for n in range(links)]
        tokens = [url.removeprefix("/u/") for url in maker.urls(leavers)]
        slug = sign_up_page.ensure_page(advisor).slug
        db.session.commit()
        facts = {
            "list_id": db.session.scalars(system_list_of(advisor.id)).one().public_id,
            "advisor_id": advisor.public_id,
            "user_id": advisor.id,
            "partner_id": partner.id,
            "hash_key": hash_key.hex(),
            "sign_key": sign_key.hex(),
            "link_prefix": urlsafe_b64decode(tokens[0])[: SIGNED_BYTES - 32].hex(),
            "base_url": "http://127.0.0.1:5000/u/",
            "tokens": tokens,
            "slug": slug,
        }
        facts["key"] = api_keys.make_key("Mail engine", tuple(Scope), None, None, COMMAND)
        if db.engine.dialect.name == "postgresql":
            db.session.execute(db.text("ANALYZE"))  # as autovacuum has done it long ago
            db.session.commit()
    return facts


def system_list_of(user_id: int) -> Any:
    from sqlalchemy import select

    from asapp.models import ContactList, ListKind

    return select(ContactList).where(ContactList.user_id == user_id, ContactList.kind == ListKind.SALESFORCE_CONTACTS)


def add_contacts(connection: Any, emails: list[str], hash_key: bytes) -> None:
    """Insert contacts, and one in forty more who opted out; half of them unsubscribed here too. In the caller's transaction."""
    from asapp.contacts import suppressions, twins
    from asapp.contacts.addresses import address_hash
    from asapp.contacts.suppressions import Address, Happened
    from asapp.core.bulk import insert_many
    from asapp.core.clock import utcnow
    from asapp.models import BlockedBy, Contact, SuppressionSource, SuppressionStep
    from asapp.models.search import search_key

    now, user_id = utcnow(), connection.user_id
    refusing = [f"refusing.{n}@fjord.example" for n in range(len(emails) // 40)]
    rows = []
    for number, email in enumerate([*emails, *refusing]):
        first, last = NAMES[number % len(NAMES)], f"Gonzalez-{number}"
        rows.append(
            {
                "user_id": user_id,
                "connection_id": connection.id,
                "salesforce_id": f"003{number:015d}",
                "source": "salesforce",
                "is_lead": False,
                "first_name": first,
                "last_name": last,
                "email": email,
                "search_key": search_key(first, last, email),
                "address_hash": address_hash(email, hash_key),
                "opted_out": number >= len(emails),
                "bounce_reason": "",
                "system_modstamp": now - timedelta(minutes=number),
                "created_at": now,
                "changed_at": now - timedelta(minutes=number),
            }
        )
    insert_many(Contact.__table__, rows)  # type: ignore[arg-type]
    opted_out = {row["salesforce_id"]: row["address_hash"] for row in rows if row["opted_out"]}
    twins.block(connection.id, user_id, BlockedBy.CONTACT, opted_out)
    suppressions.store(
        [
            Happened(
                Address(connection.partner_id, user_id, hashed),
                SuppressionStep.UNSUBSCRIBED,
                SuppressionSource.SENDER,
                now,
                hashed.hex(),
            )
            for hashed in list(opted_out.values())[::2]
        ]
    )


def prepare_send(users: list[int], **_rest: Any) -> dict[str, Any]:
    """Prepare a send of all that the advisor has from Salesforce, as the two jobs do it, one after the other."""
    import asapp.jobs.worker  # noqa: F401 - what a worker process holds
    from asapp.core.extensions import db
    from asapp.jobs import tasks
    from asapp.jobs.warm_up import warm_up
    from asapp.models import Send
    from asapp.sends import sends

    with job_app().app_context():
        warm_up(tasks.org_access())  # as a worker's parent has done
        send_id = sends.start_send(0, "bench", db.session.scalars(system_list_of(users[0])).one(), 60).id
    found: dict[str, Any] = {}
    with measured(found):
        tasks.prepare_send(send_id)
        with job_app().app_context():
            run_id = db.session.get_one(Send, send_id).run_id or 0
        tasks.run_sync(run_id)
    with job_app().app_context():
        send = db.session.get_one(Send, send_id)
        if not send.is_ready:
            raise RuntimeError(f"the send is {send.state}: {send.reason}")
    return found


JOBS: dict[str, Callable[..., dict[str, Any]]] = {job.__name__: job for job in (prepare, prepare_send)}

if __name__ == "__main__":
    answer = JOBS[sys.argv[1]](**json.loads(sys.argv[2]))
    sys.stdout.write(f"\n{json.dumps(answer)}\n")
    sys.stdout.flush()
