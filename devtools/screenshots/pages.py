"""The tour: every page of the product, in the order in which a story makes it worth looking at."""

from __future__ import annotations

from uuid import uuid4

import pyotp
import requests
from playwright.sync_api import Page

from devtools.demo import PASSWORD
from devtools.guard import ROOT
from devtools.sample_sender import Sender
from devtools.screenshots.coverage import pages_without_picture
from devtools.screenshots.studio import ADA, AMARA, JONAS, TIMEOUT_S, Studio, take

PANEL = "/settings/integrations?open=salesforce"
FOR_GUIDES = ROOT / "static" / "guides"
FOR_README = ROOT / "docs" / "pictures"
GIVEN_AWAY = 620
BLINK_MS = 2500  # a form that is filled in faster is asked about once more
GUESSES = 21  # of a link, from one address, until no more are taken
WRONG_SECRET = "0123456789ABCDEF" * 4

# Pages that need no more than to be opened: the picture's name, and the path.
NEW = """
new-panel /settings/integrations?open=salesforce
new-contacts /contacts
new-changes /changes
new-leads /leads
new-syncs /settings/integrations/runs
"""
WORKING = """
panel /settings/integrations?open=salesforce
contacts /contacts
contacts-search /contacts?q=esi
contacts-none /contacts?q=zebedee
changes /changes
changes-90 /changes?span=90
changes-left /changes?kind=left&since=30
leads /leads
leads-page /leads/page
syncs /settings/integrations/runs?only=changes
why /contacts/why?person=Zebedee+Nobody
why-empty /contacts/why
new-contact /contacts/new
new-list /contacts/lists/new
profile /settings
security /settings/security
second-step /settings/second-factor
inactive /contacts?state=inactive
opted-out /contacts?state=opted_out
"""
FOR_ADMINS = """
firms /admin/partners
firm-new /admin/partners/new
firm /admin/partners/northgate-wealth
advisors /admin/partners/northgate-wealth/advisors
firm-delete /admin/partners/northgate-wealth/delete
firm-stop /admin/partners/northgate-wealth/stop
boards /admin/board
board /admin/board?firm=northgate-wealth
calls /admin/calls
audit /admin/audit
audit-none /admin/audit?q=nobody
health /admin/health
api-keys /admin/api-keys
admins /admin/admins
guide-admin /help/admin
"""
PUBLIC = """
login /login
forgot /password/forgot
guide-advisor /help/advisor
guide-salesforce-admin /help/salesforce-admin
api-docs /api/docs
not-found /nothing-here
setup-unknown /partner-setup/unknown
sign-up-unknown /o/unknown
unsubscribe-invalid /u/unknown
password-gone /password/unknown
email-gone /email/unknown
sign-up-confirm-gone /o/amara-okafor/confirm
"""
HELD = """
held-panel /settings/integrations?open=salesforce
held-contacts /contacts
"""
HIDDEN = """
hidden-panel /settings/integrations?open=salesforce
hidden-contacts /contacts
"""
RECONNECT = """
reconnect-panel /settings/integrations?open=salesforce
reconnect-contacts /contacts
reconnect-leads /leads
"""


def take_pictures(studio: Studio) -> None:
    """Take the pictures of the README and of the guides."""
    make_history(studio)
    page = studio.open(PANEL, AMARA)
    take(page.locator(".tile").first, FOR_README / "panel.png", height=760)
    page.set_viewport_size({"width": 820, "height": 900})
    take(page.locator(".tile").first, FOR_GUIDES / "sync.png", height=500)
    take(studio.open("/changes", AMARA), FOR_README / "changes.png")
    take(open_receipt(studio), FOR_README / "receipt.png")
    take_sync_under_way(studio)
    board = studio.open("/admin/board?firm=northgate-wealth", ADA)
    board.set_viewport_size({"width": 900, "height": 860})
    take(board, FOR_GUIDES / "board.png")
    take_checks(studio)
    hold(studio)
    held = studio.open(PANEL, AMARA)
    held.set_viewport_size({"width": 820, "height": 900})
    take(held.locator(".tile").first, FOR_GUIDES / "held.png", height=850)


def take_sync_under_way(studio: Studio) -> None:
    """Let the other advisor connect, and look at the first sync while a slow org answers."""
    page = connect(studio, JONAS)
    studio.org("change_settings", page_sizes=200)
    studio.org("add_trouble", answer="slow", kind="query_more", seconds=2)
    page.locator("#sync").click()
    page.get_by_role("progressbar").wait_for()
    page.wait_for_timeout(5000)  # so that some of it is done
    take(page.locator(".tile").first, FOR_README / "syncing.png")
    studio.org("clear_trouble")
    studio.org("change_settings", page_sizes=2000)
    page.locator("[data-state=complete]").wait_for()


def take_checks(studio: Studio) -> None:
    page = enter_keys(studio, new_firm(studio), secret=WRONG_SECRET)
    page.set_viewport_size({"width": 820, "height": 900})
    take(page.locator("ul.checks"), FOR_GUIDES / "checks.png")


# ---- What happens


def make_history(studio: Studio) -> None:
    """Let three weeks pass, with a change now and then."""
    amara = user_id(studio, "Amara Okafor")
    colleague = user_id(studio, "Jonas Lindqvist")
    page = studio.open(PANEL, AMARA)
    contacts = studio.org_state("contacts", owner_id=amara)
    ids = [each["Id"] for each in contacts if each["Email"] and not each["HasOptedOutOfEmail"]]
    for week, days in enumerate((5, 4, 6, 3, 4, 1)):
        studio.age(days)
        some = ids[week * 20 : week * 20 + 20]
        for number in range(2 + 3 * week):
            name = f"mensah{week}{number}"
            studio.org(
                "add_contact", owner_id=amara, first_name="Esi", last_name=name.title(), email=f"{name}@esi.example"
            )
        for each in some[: 1 + week % 3]:
            studio.org("opt_out", record_id=each)
        for each in some[3 : 4 + week]:
            studio.org("give", record_id=each, owner_id=colleague)
        studio.org("update_contact", contact_id=some[18], last_name="Falk")
        studio.sync(page)


def hold(studio: Studio) -> None:
    """Give many of the advisor's contacts away, and sync: it is held."""
    amara = user_id(studio, "Amara Okafor")
    others = [user_id(studio, name) for name in ("Jonas Lindqvist", "Ewa Wiśniewska")]
    contacts = studio.org_state("contacts", owner_id=amara)
    for number, each in enumerate(contacts[:GIVEN_AWAY]):
        studio.org("give", record_id=each["Id"], owner_id=others[number % 9 == 0])
    studio.sync(studio.open(PANEL, AMARA))


def user_id(studio: Studio, name: str) -> str:
    return next(str(user["id"]) for user in studio.org_state()["users"] if user["name"] == name)


def connect(studio: Studio, who: str) -> Page:
    """Press Connect Account, log in at the org, allow it; return the panel."""
    page = studio.open(PANEL, who)
    page.get_by_role("button", name="Connect Account").click()
    page.get_by_role("button", name="Log in as Jonas Lindqvist").click()
    page.get_by_role("button", name="Allow").click()
    page.locator("#sync").wait_for()
    return page


def open_receipt(studio: Studio) -> Page:
    page = studio.open(PANEL, AMARA)
    page.get_by_role("link", name="See the receipt").click()
    page.locator(".sheet").wait_for()
    return page


def new_firm(studio: Studio) -> str:
    """Make a firm and send a setup link; return its address."""
    page = studio.open("/admin/partners/new", ADA)
    page.get_by_label("Firm name").fill(f"Harbour & Vine {uuid4().hex[:4]}")
    page.get_by_role("button", name="Save").click()
    page.get_by_label("Name of the firm's Salesforce admin").fill("Tess Ward")
    page.get_by_label("Their email").fill("tess@harbour.example")
    page.get_by_role("button", name="Send setup link").click()
    return page.locator("#link").input_value()


def enter_keys(studio: Studio, link: str, secret: str = "") -> Page:
    page = studio.open(f"{link}/keys")
    page.get_by_label("Salesforce URL").fill(studio.demo.ports.org_url)
    page.get_by_label("Consumer Key").fill(studio.demo.consumer_key)
    page.get_by_label("Consumer Secret", exact=True).fill(secret or studio.demo.consumer_secret)
    page.get_by_role("button", name="Check and save").click()
    page.locator("ul.checks").wait_for()
    return page


# ---- Every page, as it is at some moment of the story


def photograph_everything(studio: Studio) -> None:
    """Take a picture of every page in each look (Studio.photograph)."""
    for act in (before_connecting, at_work, look_into_lists, make_contact_and_list, for_admins, set_a_firm_up):
        studio.attempt(act)
    for act in (look_after_people, make_key, for_the_public, in_trouble):
        studio.attempt(act)
    for act in (set_second_step_up, change_address, when_it_breaks):
        studio.attempt(act)
    without = pages_without_picture(studio.demo.config, studio.urls)
    studio.problems += [f"{name}: no picture, and not named as left out" for name in without]


def shoot_all(studio: Studio, who: str, pages: str) -> None:
    """pages: lines of a name and a path"""
    for line in pages.split("\n")[1:-1]:
        shoot(studio, who, *line.split())


def shoot(studio: Studio, who: str, name: str, path: str) -> None:
    page = studio.open(path, who)
    studio.photograph(name, page)
    page.close()


def before_connecting(studio: Studio) -> None:
    shoot_all(studio, JONAS, NEW)
    page = connect(studio, JONAS)
    studio.photograph("connected-panel", page)
    page.locator("summary", has_text="Connect another Salesforce user").click()
    page.get_by_role("button", name="Log in as another user").click()
    page.get_by_role("button", name="Log in as Ewa Wiśniewska").click()
    page.get_by_role("button", name="Allow").click()
    page.locator("#switch").wait_for()
    studio.photograph("switch", page)
    page.locator("#keep-connection").click()
    page.locator("#sync").wait_for()
    page.close()


def at_work(studio: Studio) -> None:
    make_history(studio)
    confirm_sign_up(studio, sign_up(studio))
    shoot_all(studio, AMARA, WORKING)
    studio.photograph("receipt", open_receipt(studio))
    page = studio.open("/changes?kind=left&since=30", AMARA)
    page.locator(".table th a").first.click()
    page.locator(".story-split, .history").first.wait_for()
    studio.photograph("contact", page)
    page = studio.open("/contacts", AMARA)
    page.locator("input[name=id]").nth(2).check()
    page.locator("input[name=id]").nth(3).check()
    studio.photograph("contacts-ticked", page)
    page.get_by_role("button", name="Delete…").click()
    page.get_by_role("button", name="Delete 2 contacts").wait_for()
    studio.photograph("delete", page)
    page.get_by_role("button", name="Delete 2 contacts").click()
    page.get_by_role("button", name="Undo").wait_for()
    studio.photograph("deleted", page)


def sign_up(studio: Studio) -> str:
    """Sign someone up on the advisor's page; return its address."""
    address = studio.open("/leads", AMARA).locator("#link").input_value()
    page = studio.open(address)
    studio.photograph("sign-up", page)
    page.get_by_label("First name").fill("Mei-Ling")
    page.get_by_label("Last name").fill("Chou")
    page.wait_for_timeout(BLINK_MS)
    page.get_by_role("button", name="Sign up").click()
    page.locator("[aria-invalid]").first.wait_for()
    studio.photograph("sign-up-refused", page)
    page.get_by_label("Email").fill("meiling.chou@harbour.example")
    page.get_by_role("checkbox").check()
    page.wait_for_timeout(BLINK_MS)
    page.get_by_role("button", name="Sign up").click()
    page.get_by_role("heading", name="Thank you").wait_for()
    studio.photograph("sign-up-thanks", page)
    return address


def confirm_sign_up(studio: Studio, address: str) -> None:
    """Let the firm ask for a confirmation; sign someone up, who confirms."""
    firm = studio.open("/admin/partners/northgate-wealth", ADA)
    firm.get_by_label("Confirm sign-ups by email").check()
    with firm.expect_navigation():
        firm.get_by_role("button", name="Save").click()
    page = studio.open(address)
    page.get_by_label("First name").fill("Oskar")
    page.get_by_label("Last name").fill("Brandt")
    page.get_by_label("Email").fill("oskar.brandt@harbour.example")
    page.get_by_role("checkbox").check()
    page.wait_for_timeout(BLINK_MS)
    page.get_by_role("button", name="Sign up").click()
    page.get_by_role("heading", name="One more step").wait_for()
    studio.photograph("sign-up-one-more-step", page)
    photograph_lead(studio, "Oskar Brandt")
    page.goto(studio.link_in_mail("oskar.brandt@harbour.example"))
    studio.photograph("sign-up-confirm", page)
    page.get_by_role("button", name="Yes, sign me up").click()
    page.get_by_role("heading", name="Confirmed").wait_for()
    studio.photograph("sign-up-confirmed", page)
    firm.get_by_label("Confirm sign-ups by email").uncheck()
    with firm.expect_navigation():
        firm.get_by_role("button", name="Save").click()


def photograph_lead(studio: Studio, name: str) -> None:
    page = studio.open("/leads", AMARA)
    studio.photograph("leads-not-confirmed", page)
    page.get_by_role("link", name=name).click()
    page.get_by_role("heading", name=name, level=1).wait_for()
    studio.photograph("lead", page)
    page.get_by_role("link", name="Erase…").click()
    page.get_by_role("button", name="Erase for good").wait_for()
    studio.photograph("lead-erase", page)


def look_into_lists(studio: Studio) -> None:
    page = studio.open("/contacts/from-salesforce", AMARA)
    page.get_by_role("table", name="List views and campaigns").wait_for()
    studio.photograph("lists-from-salesforce", page)
    page.goto(f"{studio.web}/contacts/from-salesforce/choose")
    page.get_by_role("link", name="Look inside").first.click()
    page.locator("#look").wait_for()
    studio.photograph("lists-look", page)


def make_contact_and_list(studio: Studio) -> None:
    page = studio.open("/contacts/new", AMARA)
    page.get_by_label("First name").fill("Ines")
    page.get_by_label("Last name").fill("Duarte")
    page.get_by_label("Email").fill("ines.duarte@harbour.example")
    page.get_by_role("button", name="Add contact").click()
    page.goto(f"{studio.web}/contacts?q=duarte")
    page.get_by_role("link", name="Ines Duarte").click()
    page.get_by_role("link", name="Edit").wait_for()
    studio.photograph("contact-by-hand", page)
    page.get_by_role("link", name="Edit").click()
    page.get_by_label("First name").wait_for()
    studio.photograph("contact-edit", page)
    page.goto(f"{studio.web}/contacts/lists/new")
    page.get_by_label("Name of the list").fill("Autumn seminar")
    page.get_by_role("button", name="Make the list").click()
    page.get_by_role("navigation", name="Lists").get_by_role("link", name="Autumn seminar").click()
    page.get_by_role("link", name="Rename or delete").wait_for()
    studio.photograph("contacts-list", page)
    page.get_by_role("link", name="Rename or delete").click()
    page.get_by_role("button", name="Rename").wait_for()
    studio.photograph("list-edit", page)


def look_after_people(studio: Studio) -> None:
    """Invite an advisor, deactivate the account, and change another one's address."""
    page = studio.open("/admin/partners/northgate-wealth/advisors", ADA)
    page.get_by_label("Name").fill("Priya Raman")
    page.get_by_label("Email").fill("priya@advisor.example")
    page.get_by_role("button", name="Invite").click()
    page.locator("#link").wait_for()
    studio.photograph("advisor-invited", page)
    studio.photograph("password-set", studio.open(page.locator("#link").input_value()))
    page.get_by_role("link", name="Done").click()
    for name, link in (("change", "Change… Priya"), ("move", "Move… Priya"), ("deactivate", "Deactivate… Priya")):
        page.get_by_role("link", name=link).click()
        page.get_by_role("link", name="Cancel").wait_for()
        studio.photograph(f"advisor-{name}", page)
        if name != "deactivate":
            page.get_by_role("link", name="Cancel").click()
    page.get_by_role("button", name="Deactivate Priya").click()
    page.get_by_role("link", name="Erase… Priya").wait_for()
    studio.photograph("advisors-inactive", page)
    page.get_by_role("link", name="Erase… Priya").click()
    page.get_by_role("button", name="Erase Priya").wait_for()
    studio.photograph("advisor-erase", page)
    page.goto(f"{studio.web}/admin/partners/northgate-wealth/advisors")
    page.get_by_role("link", name="Change… Jonas").click()
    page.get_by_label("Email").fill("jonas.l@advisor.example")
    page.get_by_role("button", name="Save").click()
    studio.photograph("email-confirm", studio.open(studio.link_in_mail("jonas.l@advisor.example")))


def make_key(studio: Studio) -> None:
    page = studio.open("/admin/api-keys", ADA)
    page.get_by_label("Label").fill("Mail engine")
    page.get_by_role("checkbox").first.check()
    page.get_by_role("button", name="Make the key").click()
    page.locator("#key").wait_for()
    studio.photograph("api-key-made", page)


def for_admins(studio: Studio) -> None:
    shoot_all(studio, ADA, FOR_ADMINS)


def set_a_firm_up(studio: Studio) -> None:
    link = new_firm(studio)
    shoot(studio, "", "setup-guide", link)
    shoot(studio, "", "setup-keys", f"{link}/keys")
    page = enter_keys(studio, link, secret=WRONG_SECRET)
    studio.photograph("setup-refused", page)
    page = enter_keys(studio, link)
    studio.photograph("setup-done", page)
    shoot(studio, "", "setup-ended", link)
    page = studio.open("/admin/audit", ADA)
    page.get_by_role("link", name="Erase…").first.click()
    page.get_by_role("button", name="Erase").wait_for()
    studio.photograph("audit-erase", page)


def for_the_public(studio: Studio) -> None:
    shoot_all(studio, "", PUBLIC)
    page = studio.open("/login")
    page.get_by_label("Email").fill("nobody@advisor.example")
    page.get_by_label("Password", exact=True).fill("wrong wrong wrong")
    page.get_by_role("button", name="Log in").click()
    page.get_by_role("alert").first.wait_for()
    studio.photograph("login-refused", page)
    shoot(studio, AMARA, "not-allowed", "/admin/partners")
    page = studio.open(unsubscribe_link(studio))
    studio.photograph("unsubscribe", page)
    page.get_by_role("button").first.click()
    page.get_by_role("button", name="Undo").wait_for()
    studio.photograph("unsubscribed", page)
    page.get_by_role("button", name="Undo").click()
    page.wait_for_load_state()
    studio.photograph("unsubscribe-undone", page)


def unsubscribe_link(studio: Studio) -> str:
    sender = Sender(studio.web, studio.demo.make_key("Studio"))
    lists = next(each["lists"] for each in sender.advisors() if each["email"] == AMARA)
    send = sender.prepare(next(each["id"] for each in lists if each["name"] == "Salesforce Contacts"))
    return str(next(iter(sender.recipients(send)))["unsubscribe_url"])


def in_trouble(studio: Studio) -> None:
    hold(studio)
    shoot_all(studio, AMARA, HELD)
    page = studio.open(PANEL, AMARA)
    page.locator("#discard").click()
    page.locator("#change-decision").wait_for()
    studio.photograph("kept-panel", page)
    studio.photograph("held-receipt", open_receipt(studio))
    page.goto(f"{studio.web}{PANEL}")
    page.locator("#disconnect").click()
    page.get_by_role("radio").first.wait_for()
    studio.photograph("disconnect", page)
    studio.org("hide_field", sobject="Contact", field="HasOptedOutOfEmail")
    studio.sync(page)
    shoot_all(studio, AMARA, HIDDEN)
    studio.org("show_field", sobject="Contact", field="HasOptedOutOfEmail")
    studio.org("use_up_allowance")
    studio.sync(page)
    shoot(studio, AMARA, "paused-panel", PANEL)
    shoot(studio, ADA, "board-trouble", "/admin/board?firm=northgate-wealth")
    studio.org("restore_allowance")
    studio.org("revoke_approvals")
    studio.org("expire_sessions")
    studio.sync(page)
    shoot_all(studio, AMARA, RECONNECT)


def set_second_step_up(studio: Studio) -> None:
    page = studio.open("/settings/second-factor", JONAS)
    secret = page.locator(".secret-text").inner_text().replace(" ", "")
    page.get_by_label("Six digits").fill(pyotp.TOTP(secret).now())
    page.get_by_role("button", name="Confirm").click()
    page.locator(".codes").wait_for()
    studio.photograph("recovery-codes", page)
    page = studio.open("/login")
    page.get_by_label("Email").fill(JONAS)
    page.get_by_label("Password", exact=True).fill(PASSWORD)
    page.get_by_role("button", name="Log in").click()
    page.get_by_role("heading", name="One more step").wait_for()
    studio.photograph("login-code", page)


def change_address(studio: Studio) -> None:
    page = studio.open(studio.link_in_mail("jonas.l@advisor.example"))
    page.get_by_role("button", name="Use this address").click()
    page.get_by_role("heading", name="Your address is changed").wait_for()
    studio.photograph("email-confirmed", page)


def when_it_breaks(studio: Studio) -> None:
    """Afterwards nothing works."""
    for _ in range(GUESSES):
        requests.get(f"{studio.web}/password/unknown", timeout=TIMEOUT_S)
    shoot(studio, "", "too-many", "/password/unknown")
    studio.break_syncs()
    shoot(studio, AMARA, "broken", "/settings/integrations/runs")
