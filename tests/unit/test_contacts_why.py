"""Why isn't this person here? The question, and the verdict on what is known: pure functions."""

from __future__ import annotations

from base64 import b64encode

import pytest

from asapp.contacts.why import (
    OF_REASON,
    AnAccount,
    ContactSighting,
    Here,
    KnownHere,
    NotAQuestion,
    Question,
    decide_from_here,
    decide_from_there,
    read_question,
    sightings_of,
)
from asapp.messages.contacts import (
    NO_ANSWERS,
    REASONS,
    SOURCES,
    STATES,
    USUAL_ANSWERS,
    VERDICTS,
    Answer,
    UnknownWhy,
    verdict_words,
)
from asapp.models import ContactSource, LedgerOutcome, Reason
from asapp.models.contact import State
from asapp.salesforce.errors import Again, FieldHidden, LimitReached, ReconnectNeeded, TryLater
from asapp.salesforce.fields import ReadFields
from asapp.salesforce.hosts import to_18

ME, JONAS = to_18("0055g00000000Me"), to_18("0055g0000000Jon")
ID_15 = "0035g00000KqT2b"
ID = to_18(ID_15)
OTHER = to_18("0035g00000KqT9z")
ACCOUNT = to_18("0015g00000AbCdE")
STATE = b64encode(b'{"componentDef":"force:detail","attributes":{"recordId":"%s"}}' % ID.encode()).decode()


# ---- The question


@pytest.mark.parametrize(
    "text",
    [
        ID,
        ID_15,
        f"  {ID} ",
        f"https://northgate.lightning.force.com/lightning/r/Contact/{ID}/view",
        f"https://northgate.lightning.force.com/lightning/r/{ID}/view?ws=%2Flightning%2Fr%2FAccount%2F0015g00000AbCdEAAX",
        f"northgate.lightning.force.com/lightning/r/Contact/{ID}/view",
        f"https://northgate.my.salesforce.com/{ID_15}",
        f"https://northgate.my.salesforce.com/{ID}?nooverride=1",
        f"https://na1.salesforce.com/{ID_15}/e",
        f"https://northgate.lightning.force.com/one/one.app#%2Fsobject%2F{ID}%2Fview",
        f"/lightning/r/Contact/{ID}/view",
        f"https://northgate.lightning.force.com/lightning/r/Contact/{ID_15}/view",
        f"https://northgate.lightning.force.com/lightning/r/Account/{ACCOUNT}/view?ws=%2Flightning%2Fr%2FContact%2F{ID}%2Fview",
        f"https://northgate.my.salesforce.com/secur/frontdoor.jsp?retURL=%252Flightning%252Fr%252F{ID}%252Fview",
        f"https://na1.salesforce.com/console#%2F{ID_15}",
        f"https://northgate.my.salesforce.com/_ui/core/userprofile?id={ID_15}&isdtp=vw",
        f"https://northgate.lightning.force.com/one/one.app#{STATE}",
        f"salesforce1://sObject/{ID}/view",
        f"“{ID}”",
        f"'{ID_15}'",
        f"<{ID}>,",
        f"({ID}).",
        f"«{ID}»;",
        f"\u00a0{ID}\u200b",
        f'=HYPERLINK("https://northgate.my.salesforce.com/{ID_15}","Ewa")',
        f"Ewa Nowak: {ID}",
        f"<https://northgate.my.salesforce.com/{ID}>.",
    ],
)
def test_ids_and_links_are_read(text: str) -> None:
    assert read_question(text) == Question(salesforce_id=ID)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("0038g000000001qaaa", "0038g000000001qAAA"),
        ("0038G000000001QAAA", "0038g000000001qAAA"),
        (ID.lower(), ID),
        (ID.upper(), ID),
        (ID_15 + ID[15:].lower(), ID),
        (ID_15.lower() + ID[15:], ID),
        (f"https://northgate.lightning.force.com/lightning/r/contact/{ID.lower()}/view", ID),
        (f"HTTPS://NORTHGATE.MY.SALESFORCE.COM/{ID.upper()}", ID),
        (f" “{ID.lower()}”, ", ID),
    ],
)
def test_an_id_that_lost_its_case_gets_it_back(text: str, found: str) -> None:
    assert read_question(text) == Question(salesforce_id=found)


@pytest.mark.parametrize("text", [ID[:15] + "AAA", ID.lower()[:15] + "aa9", ID[:11] + "Q" + ID[12:], ID[:15] + "aaa"])
def test_an_id_whose_last_letters_do_not_fit_is_mistyped(text: str) -> None:
    with pytest.raises(NotAQuestion, match="mistyped"):
        read_question(text)


@pytest.mark.parametrize(
    "text",
    [
        ACCOUNT,
        ACCOUNT[:15],
        ACCOUNT.lower(),
        f"https://northgate.lightning.force.com/lightning/r/Account/{ACCOUNT}/view",
        f"https://northgate.my.salesforce.com/{ACCOUNT[:15]}",
    ],
)
def test_a_link_to_an_account_is_recognised(text: str) -> None:
    with pytest.raises(AnAccount) as refused:
        read_question(text)
    assert refused.value.account_id == ACCOUNT


@pytest.mark.parametrize(
    ("text", "email"),
    [
        ("ewa@wisla.example", "ewa@wisla.example"),
        (" Ewa@Wisla.example\n", "Ewa@Wisla.example"),
        ("mailto:ewa@wisla.example?subject=Hi", "ewa@wisla.example"),
        ("Ewa Wiśniewska <ewa@wisla.example>", "ewa@wisla.example"),
        ("<ewa@wisla.example>", "ewa@wisla.example"),
        ("“ewa@wisla.example”,", "ewa@wisla.example"),
        ("(ewa@wisla.example).", "ewa@wisla.example"),
        ("b.levy@expressl&t.net", "b.levy@expressl&t.net"),
        ("o'brien@example.com", "o'brien@example.com"),
    ],
)
def test_addresses_are_read(text: str, email: str) -> None:
    assert read_question(text) == Question(email=email)


@pytest.mark.parametrize("text", ["Ewa Wiśniewska", " Ewa\u00a0 Wiśniewska, ", "“Ewa Wiśniewska”"])
def test_names_are_read(text: str) -> None:
    assert read_question(text) == Question(name="Ewa Wiśniewska")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "Enter"),
        ("+44 20 7946", "neither a name"),
        ("write to ewa@wisla.example and jonas@a.example", "neither"),
        ("0015g00000AbCdE", "not a contact's"),
        (ID[:15] + "AAA", "mistyped"),
        (
            "https://northgate.lightning.force.com/lightning/r/Account/0015g00000AbCdEAAX/view",
            "doesn't lead to a contact",
        ),
        ("https://example.com/", "doesn't lead to a contact"),
        (f"{'x' * 300}@example.com", "longer"),
        ("\0\0", "Enter"),
    ],
)
def test_anything_else_is_answered_with_words(text: str, says: str) -> None:
    with pytest.raises(NotAQuestion, match=says):
        read_question(text)


# ---- The verdict, from what is stored


def here(reason: str | None = None, number: int = 1, **columns: object) -> Here:
    values = {"id": number, "name": "Ewa", "salesforce_id": ID, "reason": reason, "merged_into": None, "is_held": False}
    return Here(**(values | columns))  # type: ignore[arg-type]


def answer_from_here(*contacts: Here, outcome: str | None = None) -> Answer | None:
    verdict = decide_from_here(KnownHere(contacts, outcome))
    return verdict.answer if verdict else None


def test_here_and_active() -> None:
    assert answer_from_here(here()) == Answer.HERE


@pytest.mark.parametrize("reason", Reason)
def test_each_reason_has_its_verdict(reason: Reason) -> None:
    assert answer_from_here(here(reason)) == OF_REASON[reason]


def test_an_opt_out_that_is_not_known_has_a_verdict_for_each_cause() -> None:
    unknown = Reason.OPT_OUT_UNKNOWN
    assert answer_from_here(here(unknown, waits_for_review=True)) == Answer.FOR_REVIEW
    assert answer_from_here(here(unknown, is_only_out_of_sight=True)) == Answer.OUT_OF_SIGHT
    assert answer_from_here(here(Reason.OPTED_OUT, waits_for_review=True)) == Answer.OPTED_OUT


def test_a_consent_record_that_cannot_be_seen_is_told_from_an_opt_out() -> None:
    assert answer_from_here(here(Reason.OPTED_OUT, is_consent_hidden=True)) == Answer.CONSENT_HIDDEN
    assert answer_from_here(here(Reason.TWIN_OPTED_OUT, is_consent_hidden=True)) == Answer.TWIN_OPTED_OUT


def test_a_disabled_firm_is_told_from_a_disconnected_account() -> None:
    assert answer_from_here(here(Reason.DISCONNECTED, is_firm_disabled=True)) == Answer.FIRM_DISABLED
    assert answer_from_here(here(Reason.UNSUBSCRIBED, is_firm_disabled=True)) == Answer.UNSUBSCRIBED


def test_every_reason_is_covered() -> None:
    assert set(OF_REASON) == {*Reason, *UnknownWhy}
    assert set(REASONS) == set(OF_REASON)
    assert set(STATES) == {*State, *Reason}
    assert set(SOURCES) == set(ContactSource)
    assert set(VERDICTS) == set(Answer)
    assert set(USUAL_ANSWERS) < set(Answer)


def test_held_for_approval() -> None:
    assert answer_from_here(here(is_held=True)) == Answer.HELD
    assert answer_from_here(here(Reason.OPTED_OUT, is_held=True)) == Answer.OPTED_OUT


@pytest.mark.parametrize(
    ("outcome", "answer"),
    [
        (LedgerOutcome.OPTED_OUT, Answer.OPTED_OUT),
        (LedgerOutcome.NO_EMAIL, Answer.NO_EMAIL),
        (LedgerOutcome.SYNCED, None),
        (None, None),
    ],
)
def test_the_ledger_answers_for_who_was_not_imported(outcome: str | None, answer: Answer | None) -> None:
    assert answer_from_here(outcome=outcome) == answer


def test_of_several_with_one_address_the_active_one_answers() -> None:
    assert answer_from_here(here(Reason.OPTED_OUT), here(None, 2), here(Reason.GONE, 3)) == Answer.HERE
    assert answer_from_here(here(Reason.GONE), here(Reason.OPTED_OUT, 2)) == Answer.OPTED_OUT


def test_a_record_that_left_does_not_hide_another_one_that_opted_out() -> None:
    assert answer_from_here(here(Reason.DELETED), outcome=LedgerOutcome.OPTED_OUT) == Answer.OPTED_OUT


# ---- The verdict, from what Salesforce shows


def seen(**columns: object) -> ContactSighting:
    values = {
        "id": ID,
        "has_email": True,
        "is_opted_out": False,
        "owner_id": ME,
        "owner_name": "Amara Okafor",
        "is_deleted": False,
        "master_record_id": None,
    }
    return ContactSighting(**(values | columns))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("sightings", "answer"),
    [
        ([], Answer.NOT_VISIBLE),
        ([seen()], Answer.ON_ITS_WAY),
        ([seen(is_opted_out=True)], Answer.OPTED_OUT),
        ([seen(is_opted_out=True, is_consent_hidden=True)], Answer.CONSENT_HIDDEN),
        ([seen(is_opted_out=None)], Answer.OPT_OUT_UNKNOWN),
        ([seen(has_email=False)], Answer.NO_EMAIL),
        ([seen(has_email=False, is_opted_out=True)], Answer.OPTED_OUT),
        ([seen(is_opted_out=True), seen(id=OTHER)], Answer.TWIN_OPTED_OUT),
        ([seen(owner_id=JONAS)], Answer.SOMEBODY_ELSES),
        ([seen(owner_id=JONAS, is_opted_out=None)], Answer.SOMEBODY_ELSES),
        ([seen(is_deleted=True)], Answer.DELETED),
        ([seen(is_deleted=True, master_record_id=OTHER)], Answer.MERGED),
        ([seen(is_deleted=True), seen(id=OTHER, owner_id=JONAS)], Answer.SOMEBODY_ELSES),
        ([seen(owner_id=JONAS), seen(id=OTHER)], Answer.ON_ITS_WAY),
    ],
)
def test_each_sighting_has_its_verdict(sightings: list[ContactSighting], answer: Answer) -> None:
    verdict = decide_from_there(sightings, ME)
    assert verdict.answer == answer
    assert verdict.was_asked


def test_the_owner_and_the_survivor_are_named() -> None:
    assert decide_from_there([seen(owner_id=JONAS, owner_name="Jonas Lindqvist")], ME).owner_name == "Jonas Lindqvist"
    assert decide_from_there([seen(is_deleted=True, master_record_id=OTHER)], ME).merged_into == OTHER


def test_rows_of_json_become_sightings() -> None:
    row = {
        "Id": ID,
        "Email": None,
        "HasOptedOutOfEmail": False,
        "OwnerId": JONAS,
        "Owner": {"attributes": {}, "Name": "Jonas Lindqvist"},
        "IsDeleted": False,
        "MasterRecordId": None,
    }
    assert sightings_of([row], ReadFields(("HasOptedOutOfEmail",))) == [
        seen(has_email=False, owner_id=JONAS, owner_name="Jonas Lindqvist")
    ]


# ---- The words


@pytest.mark.parametrize("answer", Answer)
def test_each_verdict_has_words_and_a_remedy(answer: Answer) -> None:
    said = verdict_words(answer, "Ewa", "Jonas Lindqvist")
    assert said.headline
    assert "{" not in said.headline
    assert said.meaning
    assert said.remedy


@pytest.mark.parametrize("again", Again)
def test_a_failing_question_says_what_to_do(again: Again) -> None:
    assert all(NO_ANSWERS[again])


def test_each_kind_of_failing_question_has_words_of_its_own() -> None:
    kinds = (TryLater, LimitReached, ReconnectNeeded, FieldHidden)
    assert len({NO_ANSWERS[kind.again] for kind in kinds}) == len(kinds)


def test_a_remedy_that_is_on_another_page_says_so_as_data() -> None:
    said = [*VERDICTS.values(), *NO_ANSWERS.values()]
    assert [each for each in said if each.is_at_integrations is not ("Integrations" in each.remedy)] == []
    assert sum(each.is_at_integrations for each in said) == 9
    assert [each.headline for each in VERDICTS.values() if each.is_at_leads] == ["{who} waits for you on Leads"]
