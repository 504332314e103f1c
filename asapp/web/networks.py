"""Which address and network a request comes from."""

from __future__ import annotations

from ipaddress import IPv6Address, ip_address, ip_network

from flask import request

UNKNOWN = "unknown"  # all whose address can't be read are one network: a limit of nobody's would be no limit


def client_address() -> str:
    return request.remote_addr or ""


def client_network() -> str:
    """Return what limits count: an IPv6 line has a whole /64 to itself; an IPv4 address written as IPv6 is that address."""
    try:
        address = ip_address(client_address())
    except ValueError:
        return UNKNOWN
    if isinstance(address, IPv6Address):
        return str(address.ipv4_mapped or ip_network(f"{address}/64", strict=False))
    return str(address)
