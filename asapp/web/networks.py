"""The client address and network of a request."""

from __future__ import annotations

from ipaddress import IPv6Address, ip_address, ip_network

from flask import request

UNKNOWN = "unknown"  # unreadable addresses share one network, so that a limit applies to them


def client_address() -> str:
    return request.remote_addr or ""


def client_network() -> str:
    """Return the network that limits count: an IPv6 client has a whole /64; an IPv4 address in IPv6 form is that address."""
    try:
        address = ip_address(client_address())
    except ValueError:
        return UNKNOWN
    if isinstance(address, IPv6Address):
        return str(address.ipv4_mapped or ip_network(f"{address}/64", strict=False))
    return str(address)
