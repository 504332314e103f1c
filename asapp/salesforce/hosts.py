"""Which addresses are Salesforce's.

A token goes only to a host that this module accepts: whole-string match, https, no user-info, no port. Hosts on force.com
and my.site.com serve customers' own pages and never get one. The simulated org is let in by configuration (loopback over
http), not by a looser pattern.
"""

from __future__ import annotations

import re
from urllib.parse import SplitResult, urlsplit

SALESFORCE_HOST = re.compile(
    r"""
      (?:login|test)\.salesforce\.com
    | [a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?(?:\.[a-z0-9-]{1,63})?\.my\.salesforce\.(?:com|mil)
    | [a-z]{2,4}\d{1,4}\.salesforce\.com
    """,
    re.VERBOSE,
)
# What advisors paste from the address bar, and the host that has the API.
UI_SUFFIXES = {
    ".lightning.force.com": ".my.salesforce.com",
    ".lightning.crmforce.mil": ".my.salesforce.mil",
    ".my.salesforce-setup.com": ".my.salesforce.com",
}
LOOPBACK_HOSTS = frozenset({"127.0.0.1", "localhost", "[::1]", "::1"})
RECORD_ID = re.compile(r"[a-zA-Z0-9]{15}(?:[a-zA-Z0-9]{3})?")
CHECKSUM_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZ012345"


class NotSalesforce(ValueError):
    """The text is not the address of a Salesforce host; the message says what to enter instead."""


def normalise_url(pasted: str, allow_loopback: bool = False) -> str:
    """Return the origin that has the API (`https://acme.my.salesforce.com`) for a pasted address.

    Raises NotSalesforce with a message for the person who pasted it.
    """
    text = pasted.strip()
    if not text:
        raise NotSalesforce("Enter the address of your Salesforce, such as https://acme.my.salesforce.com.")
    url = _split(text if "://" in text else f"https://{text}")
    host = (url.hostname or "").lower()
    if allow_loopback and url.scheme == "http" and host in LOOPBACK_HOSTS and "@" not in url.netloc:
        return f"http://{url.netloc.lower()}"
    for suffix, replacement in UI_SUFFIXES.items():
        if host.endswith(suffix):
            host = host.removesuffix(suffix) + replacement
    origin = f"https://{host}"
    if url.username or url.password or _port(url) not in (None, 443) or url.scheme not in ("http", "https"):
        raise NotSalesforce("Enter only the address, without a user name or a port.")
    if host.endswith((".my.site.com", ".force.com", ".salesforce-sites.com")):
        raise NotSalesforce(
            "That is a site's address. In Salesforce, Setup › My Domain shows the one that ends in my.salesforce.com."
        )
    if not is_salesforce_url(origin):
        raise NotSalesforce(
            "That is not a Salesforce address. It ends in my.salesforce.com; Setup › My Domain shows it."
        )
    return origin


def is_salesforce_url(url: str, allow_loopback: bool = False) -> bool:
    """May a token be sent to this origin and the paths below it?"""
    if not url.isascii() or any(c.isspace() or c == "\\" for c in url):
        return False
    try:
        parts = _split(url)
    except NotSalesforce:
        return False
    if parts.username or parts.password or "@" in parts.netloc:
        return False
    if allow_loopback and parts.scheme == "http" and parts.hostname in LOOPBACK_HOSTS:
        return True
    host = parts.netloc.removesuffix(":443")
    return parts.scheme == "https" and SALESFORCE_HOST.fullmatch(host) is not None


def is_login_host(url: str) -> bool:
    """login.salesforce.com and test.salesforce.com log in, but have no API of their own."""
    return urlsplit(url).hostname in ("login.salesforce.com", "test.salesforce.com")


def is_sandbox(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    return ".sandbox.my." in host or host == "test.salesforce.com" or re.search(r"--[a-z0-9]+\.", host) is not None


def to_18(record_id: str) -> str:
    """Return the 18-character form of a Salesforce Id; raise ValueError for anything else."""
    if not RECORD_ID.fullmatch(record_id):
        raise ValueError("not a Salesforce Id")
    if len(record_id) == 18:
        return record_id
    chunks = (record_id[i : i + 5] for i in (0, 5, 10))
    return record_id + "".join(
        CHECKSUM_ALPHABET[sum(1 << bit for bit, char in enumerate(chunk) if char.isupper())] for chunk in chunks
    )


def with_case_restored(record_id: str) -> str | None:
    """Return an 18-character Id with its upper and lower case restored; None if its last three letters don't fit.

    Those three encode which of the other fifteen are capitals: one letter for five characters.
    """
    restored = ""
    for position, letter in enumerate(record_id[15:].upper()):
        capitals = CHECKSUM_ALPHABET.find(letter)
        chunk = record_id[position * 5 : position * 5 + 5]
        restored += "".join(char.upper() if capitals >> bit & 1 else char.lower() for bit, char in enumerate(chunk))
    whole = restored + record_id[15:].upper()
    return whole if len(record_id) == 18 and to_18(restored) == whole else None


def record_url(instance_url: str, record_id: str) -> str:
    """Return the address of the record's page; instance_url is the stored, checked one."""
    return f"{instance_url}/{record_id}"


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        _port(parts)
    except ValueError as error:
        raise NotSalesforce("That is not an address. It looks like https://acme.my.salesforce.com.") from error
    return parts


def _port(url: SplitResult) -> int | None:
    return url.port
