"""Many orgs in one process, each on a port of its own, whose users have no contacts and no leads.

    python -m benchmarks.canned_org ORGS SECONDS PORTS_FILE [HANGING]

Each answer comes SECONDS after its question. The ports are written to PORTS_FILE as JSON once all are open. The answers are those
of the simulated org (tests/tooling/test_canned_org.py compares them). The last HANGING orgs accept connections and never answer.
"""

from __future__ import annotations

import asyncio
import json
import sys
from datetime import UTC, datetime
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import orjson

EMPTY = {"totalSize": 0, "done": True, "records": []}
NEVER_S = 86_400.0
USAGE = "api-usage=1000/100000000"


def answer_to(question: dict[str, Any]) -> dict[str, Any]:
    """Return the body of the answer to a composite call of queries that find no row."""
    return {
        "compositeResponse": [
            {"body": EMPTY, "httpHeaders": {}, "httpStatusCode": 200, "referenceId": part["referenceId"]}
            for part in question["compositeRequest"]
        ]
    }


class CannedOrg:
    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer request after request of one connection, until the client closes it."""
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                length = int(head.partition(b"content-length:")[2].split(b"\r", 1)[0])
                question = orjson.loads(await reader.readexactly(length))
                await asyncio.sleep(self._seconds)
                body = orjson.dumps(answer_to(question))
                date = format_datetime(datetime.now(UTC), usegmt=True)
                writer.write(
                    f"HTTP/1.1 200 OK\r\nDate: {date}\r\nContent-Type: application/json;charset=UTF-8\r\n"
                    f"Sforce-Limit-Info: {USAGE}\r\nContent-Length: {len(body)}\r\n\r\n".encode()
                    + body
                )
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()


async def main(orgs: int, seconds: float, ports_file: Path, hanging: int = 0) -> None:
    kinds = [CannedOrg(seconds)] * (orgs - hanging) + [CannedOrg(NEVER_S)] * hanging
    servers = [await asyncio.start_server(org.serve, "127.0.0.1", 0) for org in kinds]
    ports_file.write_text(json.dumps([server.sockets[0].getsockname()[1] for server in servers]))
    await asyncio.gather(*(server.serve_forever() for server in servers))


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), float(sys.argv[2]), Path(sys.argv[3]), *map(int, sys.argv[4:])))
