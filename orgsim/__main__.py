"""`python -m orgsim`: serve an org until Ctrl-C or SIGTERM."""

from __future__ import annotations

import argparse
import signal
import socket
import ssl
import sys
import threading
from types import FrameType

from orgsim.org import Org
from orgsim.seed import seed_contacts, seed_demo
from orgsim.server import build_server, stop

DEMO_KEY = "3MVG9practiceOrgConsumerKey"
DEMO_SECRET = "practice-org-consumer-secret"  # noqa: S105 (an invented org's)
DEMO_CALLBACK = "http://127.0.0.1:8000/salesforce/salesforce_as/login/callback/"


def arguments(given: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m orgsim", description="Serve a simulated Salesforce org.")
    parser.add_argument("--port", type=int, default=8065, help="0 takes a free one")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--seed", choices=["demo", "empty"], default="demo", help="a firm with contacts, or no data")
    parser.add_argument("--number", type=int, default=0, help="orgs of different numbers have different ids")
    parser.add_argument("--contacts", type=int, default=0, help="more contacts for the first user")
    parser.add_argument("--key", default=DEMO_KEY, help="consumer key of the app that may connect")
    parser.add_argument("--secret", default=DEMO_SECRET, help="its consumer secret")
    parser.add_argument(
        "--callback", action="append", default=[], metavar="URL", help="its callback; may be given several times"
    )
    parser.add_argument("--advisorstream-url", help="address of the product that the page links to")
    parser.add_argument("--database", default=":memory:", help="a file, for an org that does not fit into memory")
    parser.add_argument("--tls-cert", help="PEM file: serve https")
    parser.add_argument("--tls-key", help="PEM file of its private key")
    return parser.parse_args(given)


def build_org(options: argparse.Namespace) -> Org:
    org = Org(name="Northgate Wealth", seed=options.number, database=options.database)
    org.register_app(options.key, options.secret, options.callback or [DEMO_CALLBACK])
    if options.seed == "demo":
        seed_demo(org)
    if options.contacts:
        owner = next(iter(org.people.users), None) or org.add_user(
            name="Amara Okafor", username="amara@northgate.example"
        )
        seed_contacts(org, owner, options.contacts)
    return org


def _is_free(host: str, port: int) -> bool:
    try:
        socket.create_server((host, port)).close()
    except OSError:
        return False
    return True


def main(given: list[str] | None = None) -> int:
    options = arguments(given)
    tls = None
    if options.tls_cert:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(options.tls_cert, options.tls_key)
    if not _is_free(options.host, options.port):
        sys.stderr.write(f"port {options.port} on {options.host} is in use; choose another with --port\n")
        return 1
    server = build_server(build_org(options), options.host, options.port, tls, options.advisorstream_url)

    def on_signal(_number: int, _frame: FrameType | None) -> None:
        threading.Thread(target=stop, args=(server,), daemon=True).start()

    signal.signal(signal.SIGTERM, on_signal)
    signal.signal(signal.SIGINT, on_signal)
    sys.stdout.write(f"listening on {'https' if tls else 'http'}://{options.host}:{server.port}\n")
    sys.stdout.flush()
    server.serve_forever(poll_interval=0.1)
    return 0


if __name__ == "__main__":
    sys.exit(main())
