"""SOQL: which records a statement finds, and how a wrong one is refused."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orgsim import Org
from orgsim.errors import ApiError
from orgsim.queries import run_query
from orgsim.soql import parse

NOW = datetime(2026, 5, 6, 12, 0, 30, tzinfo=UTC)


@pytest.fixture(scope="module")
def people() -> tuple[Org, str]:
    org = Org(seed=3)
    org.clock.freeze()
    org.clock.set(NOW)
    amara = org.add_user(name="Amara Okafor")
    jonas = org.add_user(name="Jonas Lindqvist")
    rows: list[tuple[str, str | None, str, str | None, bool, int, str | None]] = [
        (amara, "Rose", "Gonzalez", "rose@edge.com", False, 0, "Partner"),
        (amara, "Márta", "Szabó", "Marta.Szabo@duna.example", True, 1, None),
        (amara, None, "O'Brien", None, False, 2, "100% sure"),
        (amara, "Zoë", "Lindström", "zoe@fjord.example", False, 3, "under_score"),
        (jonas, "Barbara", "Levy", "b.levy@expressl&t.net", False, 4, "back\\slash"),
        (jonas, "健太", "佐藤", "kenta@keyaki.example", True, 40, None),
    ]
    for owner, first, last, email, out, days, title in rows:
        org.add_contact(
            owner,
            first_name=first,
            last_name=last,
            email=email,
            opted_out=out,
            Title=title,
            stamp=NOW - timedelta(days=days),
        )
    org.add_lead(amara, last_name="Prospect", company="Acme")
    org.add_lead(org.add_queue("Web Leads"), last_name="Queued", company="Acme")
    return org, amara


def ask(people: tuple[Org, str], soql: str) -> dict[str, Any]:
    org, amara = people
    return run_query(org, org.access(org.user(amara)), soql, deleted_too=False, version="66.0")


def last_names(people: tuple[Org, str], where: str) -> set[str]:
    return {r["LastName"] for r in ask(people, f"SELECT LastName FROM Contact {where}")["records"]}


def refusal(people: tuple[Org, str], soql: str) -> ApiError:
    with pytest.raises(ApiError) as caught:
        ask(people, soql)
    return caught.value


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("", {"Gonzalez", "Szabó", "O'Brien", "Lindström", "Levy", "佐藤"}),
        ("WHERE Email = 'MARTA.SZABO@DUNA.EXAMPLE'", {"Szabó"}),
        ("WHERE LastName = 'LINDSTRÖM'", {"Lindström"}),
        ("where lastname like 'l%'", {"Lindström", "Levy"}),
        ("WHERE LastName LIKE '_evy'", {"Levy"}),
        (r"WHERE Title LIKE '100\%%'", {"O'Brien"}),
        (r"WHERE Title LIKE 'under\_%'", {"Lindström"}),
        (r"WHERE Title = 'back\\slash'", {"Levy"}),
        (r"WHERE LastName = 'O\'Brien'", {"O'Brien"}),
        (r"WHERE LastName = '\u4f50\u85e4'", {"佐藤"}),
        ("WHERE Email = null", {"O'Brien"}),
        ("WHERE Email = ''", {"O'Brien"}),
        ("WHERE Email != null AND HasOptedOutOfEmail = false", {"Gonzalez", "Lindström", "Levy"}),
        # Null differs from every value: records without an address are found.
        ("WHERE Email != 'rose@edge.com'", {"Szabó", "O'Brien", "Lindström", "Levy", "佐藤"}),
        ("WHERE NOT Email = 'rose@edge.com'", {"Szabó", "O'Brien", "Lindström", "Levy", "佐藤"}),
        ("WHERE NOT (Email LIKE '%example' OR Email = null)", {"Gonzalez", "Levy"}),
        ("WHERE Email NOT IN ('rose@edge.com', 'zoe@fjord.example')", {"Szabó", "O'Brien", "Levy", "佐藤"}),
        ("WHERE Email IN ('rose@edge.com', null)", {"Gonzalez", "O'Brien"}),
        ("WHERE FirstName IN ('ZOË', 'rose')", {"Gonzalez", "Lindström"}),
        ("WHERE (LastName = 'Levy' OR LastName = 'Szabó') AND HasOptedOutOfEmail = TRUE", {"Szabó"}),
        ("WHERE Owner.Name = 'jonas lindqvist'", {"Levy", "佐藤"}),
        ("WHERE Account.Name LIKE '%clients' AND Owner.Username LIKE 'amara%' AND FirstName = 'Rose'", {"Gonzalez"}),
        ("WHERE SystemModstamp = TODAY", {"Gonzalez"}),
        ("WHERE SystemModstamp = YESTERDAY", {"Szabó"}),
        ("WHERE SystemModstamp = LAST_N_DAYS:3", {"Gonzalez", "Szabó", "O'Brien", "Lindström"}),
        ("WHERE SystemModstamp < LAST_N_DAYS:3", {"Levy", "佐藤"}),
        ("WHERE SystemModstamp > YESTERDAY", {"Gonzalez"}),
        ("WHERE SystemModstamp != LAST_N_DAYS:30", {"佐藤"}),
        ("WHERE SystemModstamp >= 2026-05-06T12:00:30Z", {"Gonzalez"}),
        ("WHERE SystemModstamp >= 2026-05-06T12:00:30.999Z", {"Gonzalez"}),
        ("WHERE SystemModstamp > 2026-05-06T12:00:30.000Z", set()),
        ("WHERE SystemModstamp >= 2026-05-06T14:00:30+02:00", {"Gonzalez"}),
        ("WHERE SystemModstamp >= 2026-05-06T05:00:30-0700", {"Gonzalez"}),
        ("USING SCOPE mine WHERE HasOptedOutOfEmail = true", {"Szabó"}),
        ("ORDER BY SystemModstamp DESC LIMIT 1", {"Gonzalez"}),
        ("ORDER BY SystemModstamp ASC, Id LIMIT 2", {"佐藤", "Levy"}),
        ("ORDER BY Email NULLS LAST LIMIT 1", {"Levy"}),
        ("ORDER BY Email DESC LIMIT 1", {"O'Brien"}),
    ],
)
def test_a_condition_finds_the_right_people(people: tuple[Org, str], where: str, expected: set[str]) -> None:
    assert last_names(people, where) == expected


@pytest.mark.parametrize(
    ("soql", "code", "piece"),
    [
        ("SELECT HasEmailOptOut FROM Contact", "INVALID_FIELD", "No such column 'HasEmailOptOut' on entity 'Contact'."),
        ("SELECT Id FROM Contact WHERE Nope = 1", "INVALID_FIELD", "No such column 'Nope'"),
        ("SELECT Id FROM Contact ORDER BY Nope", "INVALID_FIELD", "No such column 'Nope'"),
        ("SELECT Nope.Name FROM Contact", "INVALID_FIELD", "Didn't understand relationship 'Nope' in field path."),
        ("SELECT Id, Owner.Email FROM Lead", "INVALID_FIELD", "No such column 'Email' on entity 'Name'"),
        ("SELECT Id, id FROM Contact", "INVALID_FIELD", "duplicate field selected: Id"),
        ("SELECT Id FROM Accout", "INVALID_TYPE", "sObject type 'Accout' is not supported."),
        ("SELECT Id FORM Contact", "MALFORMED_QUERY", "unexpected token: 'FORM'"),
        ("SELECT FROM Contact", "MALFORMED_QUERY", "unexpected token: "),
        ("SELECT Id FROM Contact WHERE", "MALFORMED_QUERY", "unexpected token: '<EOF>'"),
        ("SELECT Id FROM Contact LIMIT -1", "MALFORMED_QUERY", "unexpected token: '-1'"),
        ("SELECT Id FROM Contact; DROP TABLE x", "MALFORMED_QUERY", "no viable alternative at character ';'"),
        (
            "SELECT Id FROM Contact WHERE Email = null AND Name != null OR Id = null",
            "MALFORMED_QUERY",
            "unexpected token: 'OR'",
        ),
        ("SELECT Id FROM Contact WHERE LastName = 'open", "MALFORMED_QUERY", "unexpected token: '<EOF>'"),
        (r"SELECT Id FROM Contact WHERE LastName = '\z'", "MALFORMED_QUERY", r"Illegal character sequence '\z'"),
        (
            "SELECT Id FROM Contact WHERE SystemModstamp > '2026-01-01'",
            "INVALID_FIELD",
            "value of filter criterion for field 'SystemModstamp' must be of type dateTime and should not be enclosed in quotes",
        ),
        (
            "SELECT Id FROM Contact WHERE SystemModstamp > 2026-05-06T12:00:00 02:00",
            "MALFORMED_QUERY",
            "unexpected token: ",
        ),
        ("SELECT Id FROM Contact WHERE SystemModstamp > 2026-05-06", "INVALID_FIELD", "must be of type dateTime"),
        ("SELECT Id FROM Contact WHERE HasOptedOutOfEmail = 'true'", "INVALID_FIELD", "must be of type boolean"),
        (
            "SELECT Id FROM Contact WHERE Email = 5",
            "INVALID_FIELD",
            "must be of type string and should be enclosed in quotes",
        ),
        ("SELECT Id FROM Contact WHERE Id = 'abc'", "INVALID_QUERY_FILTER_OPERATOR", "invalid ID field: abc"),
        (
            "SELECT Id FROM Contact WHERE Id LIKE '003%'",
            "INVALID_QUERY_FILTER_OPERATOR",
            "invalid operator on id field",
        ),
        (
            "SELECT Id FROM Contact WHERE HasOptedOutOfEmail > true",
            "INVALID_QUERY_FILTER_OPERATOR",
            "invalid operator on boolean",
        ),
        ("SELECT Id FROM Contact WHERE Description = 'x'", "INVALID_FIELD", "field 'Description' can not be filtered"),
        ("SELECT Id FROM Contact ORDER BY Description", "MALFORMED_QUERY", "field 'Description' can not be sorted"),
        # SOQL that the simulated org doesn't have is refused like any other malformed statement.
        ("SELECT Id FROM Contact LIMIT 1 OFFSET 1", "MALFORMED_QUERY", "unexpected token: 'OFFSET'"),
        ("SELECT COUNT(Id) FROM Contact", "MALFORMED_QUERY", "unexpected token: 'Id'"),
        ("SELECT MAX(SystemModstamp) FROM Contact", "MALFORMED_QUERY", "unexpected token: '('"),
        ("SELECT OwnerId FROM Contact GROUP BY OwnerId", "MALFORMED_QUERY", "unexpected token: 'GROUP'"),
        ("SELECT FIELDS(ALL) FROM Contact LIMIT 200", "MALFORMED_QUERY", "unexpected token: '('"),
        (
            "SELECT Id FROM Contact WHERE Id IN (SELECT ConvertedContactId FROM Lead)",
            "MALFORMED_QUERY",
            "unexpected token: 'SELECT'",
        ),
        ("SELECT Id FROM Contact USING SCOPE yours", "INVALID_QUERY_SCOPE", "yours"),
    ],
)
def test_a_wrong_statement_is_refused_in_salesforces_words(
    people: tuple[Org, str], soql: str, code: str, piece: str
) -> None:
    error = refusal(people, soql)
    assert (error.status, error.code) == (400, code)
    assert piece in error.message


def test_the_caret_is_below_the_mistake_as_in_a_recorded_answer(people: tuple[Org, str]) -> None:
    error = refusal(people, "select Id, Company,Email,LastName,SF_date__c, ConvertedContactId from Lead")
    assert error.message.startswith(
        "\nselect Id, Company,Email,LastName,SF_date__c, ConvertedContactId from\n"
        "                                  ^\nERROR at Row:1:Column:35\nNo such column 'SF_date__c' on entity 'Lead'. "
    )


def test_a_long_statement_is_quoted_from_near_the_mistake(people: tuple[Org, str]) -> None:
    error = refusal(people, "SELECT Id,Name,BillingCity,IsDeleted FROM Accout")
    assert error.message.startswith(
        "\nName,BillingCity,IsDeleted FROM Accout\n                                ^\nERROR at Row:1:Column:43\n"
    )


def test_counting_answers_the_total_alone(people: tuple[Org, str]) -> None:
    assert ask(people, "SELECT COUNT() FROM Contact") == {"totalSize": 6, "done": True, "records": []}
    assert ask(people, "SELECT COUNT() FROM Contact LIMIT 4")["totalSize"] == 4


def test_relationships_nest_with_attributes_of_their_own(people: tuple[Org, str]) -> None:
    found = ask(people, "SELECT c.Id, c.Owner.Name, Account.Name FROM Contact c WHERE c.LastName = 'Levy'")["records"][
        0
    ]
    assert list(found) == ["attributes", "Id", "Owner", "Account"]
    assert found["attributes"]["url"] == f"/services/data/v66.0/sobjects/Contact/{found['Id']}"
    assert found["Owner"]["Name"] == "Jonas Lindqvist"
    assert found["Owner"]["attributes"]["type"] == "User"


def test_a_leads_owner_may_be_a_queue(people: tuple[Org, str]) -> None:
    found = ask(people, "SELECT LastName, Owner.Name, Owner.Type FROM Lead ORDER BY LastName")["records"]
    assert [(r["Owner"]["Name"], r["Owner"]["Type"]) for r in found] == [
        ("Amara Okafor", "User"),
        ("Web Leads", "Queue"),
    ]


def test_ids_compare_in_both_lengths_and_come_back_in_18(people: tuple[Org, str]) -> None:
    full = ask(people, "SELECT Id FROM Contact LIMIT 1")["records"][0]["Id"]
    assert len(full) == 18
    assert ask(people, f"SELECT Id FROM Contact WHERE Id = '{full[:15]}'")["records"][0]["Id"] == full
    assert ask(people, f"SELECT Id FROM Contact WHERE Id IN ('{full[:15]}', '{full}')")["totalSize"] == 1


_words = st.text(max_size=12).filter(lambda t: not set(t) & {"\r", "\n"})


def _quoted(value: str) -> str:
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


@given(_words)
@settings(max_examples=200, deadline=None)
def test_any_quoted_string_arrives_as_it_was(value: str) -> None:
    query = parse(f"SELECT Id FROM Contact WHERE LastName = {_quoted(value)}", NOW)
    assert query.where is not None
    assert query.where.value.value == value  # type: ignore[union-attr]


@given(st.text(alphabet="SELECTFROMWHERE idname()',.=<>!0123456789\\%_:-+TZ\n", max_size=60))
@settings(max_examples=300, deadline=None)
def test_no_text_breaks_the_parser(text: str) -> None:
    with suppress(ApiError):
        parse(text, NOW)


@st.composite
def _conditions(draw: st.DrawFn, depth: int = 2) -> tuple[str, Any]:
    """A condition on LastName and opt-out, in SOQL and as a Python function."""
    if depth and draw(st.booleans()):
        word = draw(st.sampled_from(["AND", "OR", "NOT"]))
        left_text, left = draw(_conditions(depth - 1))
        if word == "NOT":
            return f"(NOT {left_text})", lambda r: not left(r)
        right_text, right = draw(_conditions(depth - 1))
        join = all if word == "AND" else any
        return f"({left_text} {word} {right_text})", lambda r: join((left(r), right(r)))
    email = draw(st.sampled_from([None, "rose@edge.com", "zoe@fjord.example", "nobody@x.example"]))
    match draw(st.sampled_from(["=", "!=", "flag", "<"])):
        case "=":
            return f"Email = {'null' if email is None else _quoted(email)}", lambda r: r["Email"] == email
        case "!=":
            return f"Email != {'null' if email is None else _quoted(email)}", lambda r: r["Email"] != email
        case "<":
            return "Email < 'm'", lambda r: r["Email"] is not None and r["Email"] < "m"
        case _:
            return "HasOptedOutOfEmail = true", lambda r: r["HasOptedOutOfEmail"]


@given(_conditions())
@settings(max_examples=150, deadline=None)
def test_conditions_agree_with_two_valued_logic(people: tuple[Org, str], condition: tuple[str, Any]) -> None:
    text, holds = condition
    expected = {r["LastName"] for r in people[0].contacts() if holds(r)}
    assert last_names(people, f"WHERE {text}") == expected
