"""Orgs to start with. The same seed gives the same firm, Ids included; all people are invented."""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from orgsim.access import ADMIN
from orgsim.org import Org

AMARA_CONTACTS, JONAS_CONTACTS, EWA_CONTACTS = 2500, 2176, 1324
OPTED_OUT, WITHOUT_EMAIL, SHARED_PAIRS, TWIN_PAIRS = 45, 24, 7, 4
LEADS = 41

# Given and family names, each with the letters that its owner uses in an address.
_NAMES: tuple[tuple[tuple[tuple[str, str], ...], tuple[tuple[str, str], ...], str], ...] = (
    (
        (
            ("Rose", "rose"),
            ("Tim", "tim"),
            ("Ava", "ava"),
            ("Seán", "sean"),
            ("Aoife", "aoife"),
            ("Beatrix", "beatrix"),
        ),
        (
            ("Gonzalez", "gonzalez"),
            ("Barr", "barr"),
            ("O'Brien", "obrien"),
            ("D'Angelo", "dangelo"),
            ("Fitzgerald", "fitzgerald"),
            ("St. John-Smythe", "stjohnsmythe"),
        ),
        "harbour.example",
    ),
    (
        (
            ("Zoë", "zoe"),
            ("Åsa", "asa"),
            ("Jörg", "jorg"),
            ("Günther", "gunther"),
            ("Søren", "soren"),
            ("Ingeborg", "ingeborg"),
        ),
        (
            ("Lindström", "lindstrom"),
            ("Müller-Lüdenscheidt", "muller"),
            ("Straße", "strasse"),
            ("Østergård", "ostergard"),
            ("Ólafsdóttir", "olafsdottir"),
            ("Virtanen", "virtanen"),
        ),
        "fjord.example",
    ),
    (
        (
            ("Márta", "marta"),
            ("Łukasz", "lukasz"),
            ("Żaneta", "zaneta"),
            ("Jiří", "jiri"),
            ("Ștefan", "stefan"),
            ("Nikolića", "nikolica"),
        ),
        (
            ("Szabó", "szabo"),
            ("Wójcik", "wojcik"),
            ("Dvořák", "dvorak"),
            ("Țurcanu", "turcanu"),
            ("Đorđević", "dordevic"),
            ("Kovačič", "kovacic"),
        ),
        "duna.example",
    ),
    (
        (
            ("José", "jose"),
            ("María José", "mariajose"),
            ("João", "joao"),
            ("Noël", "noel"),
            ("Chloé", "chloe"),
            ("Íñigo", "inigo"),
        ),
        (
            ("Núñez", "nunez"),
            ("de la Peña", "delapena"),
            ("Gonçalves", "goncalves"),
            ("L'Écuyer", "lecuyer"),
            ("Ibáñez y Ruiz", "ibanezyruiz"),
            ("Brânză", "branza"),
        ),
        "sol.example",
    ),
    (
        (("Дмитрий", "dmitri"), ("Олена", "olena"), ("Ελένη", "eleni"), ("Γιώργος", "giorgos"), ("Ана", "ana")),
        (("Соколов", "sokolov"), ("Ковальчук", "kovalchuk"), ("Παπαδόπουλος", "papadopoulos"), ("Иванова", "ivanova")),
        "volga.example",
    ),
    (
        (
            ("健太", "kenta"),
            ("さくら", "sakura"),
            ("伟", "wei"),
            ("秀英", "xiuying"),
            ("민준", "minjun"),
            ("서연", "seoyeon"),
        ),
        (("佐藤", "sato"), ("鈴木", "suzuki"), ("王", "wang"), ("李", "li"), ("김", "kim"), ("박", "park")),
        "keyaki.example",
    ),
    (
        (("Hương", "huong"), ("Minh", "minh"), ("สมชาย", "somchai"), ("Nur", "nur"), ("Wayan", "wayan")),
        (
            ("Nguyễn Thị", "nguyenthi"),
            ("Trần", "tran"),
            ("ศรีสุข", "srisuk"),
            ("binti Abdullah", "abdullah"),
            ("Suparta", "suparta"),
        ),
        "songhuong.example",
    ),
    (
        (("فاطمة", "fatima"), ("محمد", "mohammed"), ("נועה", "noa"), ("יוסף", "yosef"), ("آرش", "arash")),
        (("الزهراء", "alzahra"), ("حسن", "hassan"), ("לוי", "levi"), ("כהן", "cohen"), ("رضایی", "rezaei")),
        "qamar.example",
    ),
    (
        (
            ("Oluwaseun", "oluwaseun"),
            ("Ngozi", "ngozi"),
            ("ኃይሌ", "haile"),
            ("Thandiwe", "thandiwe"),
            ("Kwame", "kwame"),
        ),
        (
            ("Adeyemi", "adeyemi"),
            ("Okonkwo", "okonkwo"),
            ("ገብረ", "gebre"),
            ("Dlamini", "dlamini"),
            ("Mensah", "mensah"),
        ),
        "baobab.example",
    ),
    (
        (("अर्जुन", "arjun"), ("Priya", "priya"), ("ਗੁਰਪ੍ਰੀਤ", "gurpreet"), ("தமிழ்", "tamil"), ("Siddartha", "siddartha")),
        (("शर्मा", "sharma"), ("Nedaerk", "nedaerk"), ("ਸਿੰਘ", "singh"), ("குமார்", "kumar"), ("Patel", "patel")),
        "banyan.example",
    ),
)
_TITLES = ("SVP, Procurement", "Partner", "Director", "Retired", "Teacher", "Physician", None, None)


@dataclass(frozen=True)
class Firm:
    """The ids of the demo's people."""

    amara: str
    jonas: str
    ewa: str
    admin: str


def seed_demo(org: Org) -> Firm:
    """Fill an empty org with Northgate Wealth: four people, 6,000 contacts, 41 leads.

    Amara owns exactly 2,500: 45 have opted out, 24 have no address, 14 share 7 addresses, and 4 pairs of twins share one while
    one of the two has opted out. The rest belongs to the others. Imports left hundreds of records with one stamp.
    """
    rng = random.Random(20260506)
    firm = Firm(
        amara=org.add_user(name="Amara Okafor", username="amara.okafor@northgate.example"),
        jonas=org.add_user(name="Jonas Lindqvist", username="jonas.lindqvist@northgate.example"),
        ewa=org.add_user(name="Ewa Wiśniewska", username="ewa.wisniewska@northgate.example"),
        admin=org.add_user(name="Henrik Solberg", username="admin@northgate.example", profile=ADMIN),
    )
    rows = _amaras(rng, firm.amara)
    rows += _people(rng, firm.jonas, JONAS_CONTACTS, "j", opted_out=38, without_email=31)
    rows += _people(rng, firm.ewa, EWA_CONTACTS, "e", opted_out=20, without_email=12)
    rng.shuffle(rows)
    _stamp(rng, rows, org.clock.now())
    households = [
        org.add_account(firm.admin, f"{name} Household") for name in ("Northgate", "Harbour", "Meadow", "Juniper")
    ]
    for row in rows:
        # One in forty has no account and is seen by its owner and admins only.
        row["account_id"] = None if rng.random() < 0.025 else rng.choice(households)
    org.add_contacts(rows)
    _leads(org, rng, firm)
    _lists(org, firm)
    return firm


def _lists(org: Org, firm: Firm) -> None:
    """Add list views and campaigns as a firm has them: with and without a filter, private ones, one that SOQL can't draw."""

    def titled(*values: str) -> dict[str, Any]:
        leaves = [{"field": "Title", "operator": "equals", "values": [f"'{value}'"]} for value in values]
        return leaves[0] if len(leaves) == 1 else {"conditions": leaves, "conjunction": "or"}

    shown = ("Name", "Title", "Email", "Owner.Alias")
    this_week = {"field": "CreatedDate", "operator": "equals", "values": ["THIS_WEEK"]}
    no_condition = {"conditions": [], "conjunction": "and"}
    for label, scope, where in (
        ("All Contacts", "everything", no_condition),
        ("My Contacts", "mine", no_condition),
        ("New This Week", "everything", this_week),
        ("Recently Viewed Contacts", "everything", no_condition),
        ("Partners and directors", "everything", titled("Partner", "Director")),
        ("My retired clients", "mine", titled("Retired")),
    ):
        org.add_list_view("Contact", label, columns=shown, scope=scope, where=where)
    org.add_list_view(
        "Contact", "Jonas: physicians", columns=shown, scope="mine", where=titled("Physician"), only_for=[firm.jonas]
    )
    org.add_list_view("Lead", "My Leads", columns=("Name", "Company", "Email"), scope="mine")
    org.add_list_view("Lead", "Queue: unassigned", columns=("Name", "Company"), soql_compatible=False)
    _campaign(org, firm.admin, "Spring seminar", contacts={firm.amara: 63, firm.jonas: 23}, leads=4)
    _campaign(org, firm.admin, "Autumn webinar", contacts={firm.amara: 210, firm.ewa: 40}, leads=0)
    org.add_campaign(firm.admin, "Garden party of the year before", active=False, Status="Completed")


def _campaign(org: Org, owner_id: str, name: str, *, contacts: dict[str, int], leads: int) -> None:
    """Add an active campaign with some contacts of these owners and some leads."""
    campaign_id = org.add_campaign(owner_id, name, Status="In Progress", Type="Conference")
    people = [c["Id"] for owner, count in contacts.items() for c in org.contacts(owner)[:count]]
    org.add_members(campaign_id, [*people, *(lead["Id"] for lead in org.leads()[:leads])])


def _amaras(rng: random.Random, owner_id: str) -> list[dict[str, Any]]:
    special = [
        _row(owner_id, "Barbara", "Levy", "b.levy@expressl&t.net"),
        _row(owner_id, "Jake", "Llorrac", "j.llorrac@expressl&t.net"),
        _row(owner_id, None, "Gonzalez", "gonzalez@edge.example"),
        _row(owner_id, "Robert <b>Bobby</b>", "Tables', DROP", "robert.tables@example.com"),
        _row(owner_id, 'Dwayne "The Rock"', "O'Neil & Sons", "dwayne.oneil@example.com"),
        _row(owner_id, "=1+1", "@SUM(A1)", "formula@example.com"),
        _row(owner_id, "W" * 40, "X" * 80, "the.longest.name.that.fits@example.com"),
    ]
    shared = []
    for number in range(SHARED_PAIRS):
        address = f"the.{number + 1}.family@household.example"
        shared += [_row(owner_id, given, "Abernathy", address) for given in ("Ann", "Bert")]
    for number in range(TWIN_PAIRS):
        address = f"twins.{number + 1}@household.example"
        shared += [
            _row(owner_id, "Cleo", "Castellanos", address),
            _row(owner_id, "Cleo", "Castellanos", address, opted_out=True),
        ]
    count = AMARA_CONTACTS - len(special) - len(shared)
    others = _people(rng, owner_id, count, "a", opted_out=OPTED_OUT - TWIN_PAIRS, without_email=WITHOUT_EMAIL)
    return special + shared + others


def _people(
    rng: random.Random, owner_id: str, count: int, mark: str, *, opted_out: int, without_email: int
) -> list[dict[str, Any]]:
    rows = []
    for number in range(count):
        given_names, family_names, domain = rng.choice(_NAMES)
        given, family = rng.choice(given_names), rng.choice(family_names)
        first = None if rng.random() < 0.05 else given[0]
        rows.append(
            _row(
                owner_id, first, family[0], f"{given[1]}.{family[1]}.{mark}{number}@{domain}", title=rng.choice(_TITLES)
            )
        )
    for row in rng.sample(rows, opted_out):
        row["opted_out"] = True
    for row in rng.sample([r for r in rows if not r["opted_out"]], without_email):
        row["email"] = None
    return rows


def _row(
    owner_id: str, first: str | None, last: str, email: str | None, *, opted_out: bool = False, title: str | None = None
) -> dict[str, Any]:
    return {
        "owner_id": owner_id,
        "first_name": first,
        "last_name": last,
        "email": email,
        "opted_out": opted_out,
        "Title": title,
    }


def _stamp(rng: random.Random, rows: list[dict[str, Any]], now: datetime) -> None:
    """Give the rows stamps of more than a year: imports of 100 to 700 records with one stamp, and single records between them."""
    moment = now - timedelta(days=500)
    at = 0
    while at < len(rows):
        size = rng.randrange(100, 700) if rng.random() < 0.3 else rng.randrange(1, 12)
        moment = min(moment + timedelta(seconds=rng.randrange(3600, 500_000)), now - timedelta(hours=1))
        for row in rows[at : at + size]:
            row["stamp"] = moment.replace(microsecond=0)
        at += size


def _leads(org: Org, rng: random.Random, firm: Firm) -> None:
    for number in range(LEADS):
        given_names, family_names, domain = rng.choice(_NAMES)
        given, family = rng.choice(given_names), rng.choice(family_names)
        owner = rng.choice([firm.amara, firm.jonas, firm.ewa])
        org.add_lead(
            owner,
            last_name=family[0],
            first_name=given[0],
            email=f"{given[1]}.{family[1]}.l{number}@{domain}",
            company="[not provided]" if rng.random() < 0.5 else f"{family[0]} & Co.",
            LeadSource="Web",
            opted_out=rng.random() < 0.05,
            stamp=org.clock.now() - timedelta(days=rng.randrange(2, 200)),
        )


def seed_contacts(org: Org, owner_id: str, count: int, *, batch: int = 500, opted_out_every: int = 50) -> None:
    """Add many plain contacts of one owner, a million in seconds. Each batch has one stamp, a minute after the batch before."""
    sobject = org.schema["Contact"]
    account = org.account_id
    first_stamp = org.clock.seconds() - 3600 - (count // batch + 1) * 60
    columns = [
        "FirstName",
        "LastName",
        "Email",
        "HasOptedOutOfEmail",
        "AccountId",
        "OwnerId",
        "CreatedDate",
        "LastModifiedDate",
        "SystemModstamp",
        "CreatedById",
        "LastModifiedById",
    ]
    given = [g[0] for group in _NAMES for g in group[0]]
    family = [f[0] for group in _NAMES for f in group[1]]
    start = org.count("Contact")
    for low in range(0, count, 50_000):
        rows = []
        for number in range(low, min(low + 50_000, count)):
            stamp = first_stamp + number // batch * 60
            rows.append(
                (
                    given[number % len(given)],
                    family[number % len(family)],
                    f"person{start + number}@many.example",
                    int(number % opted_out_every == 0),
                    account,
                    owner_id,
                    stamp,
                    stamp,
                    stamp,
                    owner_id,
                    owner_id,
                )
            )
        org.records.insert_many(sobject, columns, rows)
