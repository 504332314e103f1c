"""People who sign up on an advisor's page: `python -m benchmarks.visitors sign_up '{…}'` prints JSON.

Each person comes from an address of their own, as behind a proxy. One thread and plain sockets, so that they cost little on a
machine that they share with the server. A time starts when a person wants to send the form and ends with the whole answer.
"""

from __future__ import annotations

import json
import re
import selectors
import sys
import time
from collections import deque
from statistics import quantiles
from typing import Any
from urllib.parse import urlencode

from benchmarks.pollers import Asker

LEAST_AGE_S = 2.1  # the youngest form that is accepted
TOKEN = re.compile(rb'name="csrf_token" value="([^"]+)"')


def sign_up(port: int, slug: str, first: int, people: int, browsers: int, a_second: float = 0.0) -> dict[str, Any]:
    """Let people sign up: at most so many at once, and as many a second, or as fast as they get their answers."""
    path = f"/o/{slug}"
    numbers = range(first, first + people)
    opened, open_times = send(port, [request("GET", port, path, number) for number in numbers], 1, 0.0, b"200")
    tokens = [found.group(1).decode() for answer in opened if (found := TOKEN.search(answer))]
    time.sleep(LEAST_AGE_S)
    forms = [
        request("POST", port, path, number, urlencode(typed(number, token)).encode())
        for number, token in zip(numbers, tokens, strict=True)
    ]
    began = time.perf_counter()
    _, times = send(port, forms, browsers, a_second, b"303")
    took = time.perf_counter() - began
    return {"s": took, "a_second": people / took, "p95_ms": p95(times), "open_p95_ms": p95(open_times)}


def typed(number: int, token: str) -> dict[str, str]:
    return {
        "csrf_token": token,
        "first_name": "Mei-Ling",
        "last_name": f"Chou {number}",
        "email": f"person.{number}@harbour.example",
        "consent": "yes",
    }


def request(method: str, port: int, path: str, number: int, body: bytes = b"") -> bytes:
    address = f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"
    head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nX-Forwarded-For: {address}\r\n"
    if body:
        head += f"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {len(body)}\r\n"
    return head.encode() + b"\r\n" + body


def send(
    port: int, requests: list[bytes], browsers: int, a_second: float, status: bytes
) -> tuple[list[bytes], list[float]]:
    """Return all answers, and how long each took."""
    waiting, idle = selectors.DefaultSelector(), deque(Asker(port) for _ in range(browsers))
    for asker in idle:
        waiting.register(asker.socket, selectors.EVENT_READ, asker)
    began = time.perf_counter()
    due = deque((began + number / a_second if a_second else 0.0, each) for number, each in enumerate(requests))
    answers: list[bytes] = []
    times: list[float] = []
    while len(answers) < len(requests):
        now = time.perf_counter()
        while due and idle and due[0][0] <= now:
            wanted_at, question = due.popleft()
            idle.popleft().ask(question, wanted_at or now)
        patience = max(0.0, due[0][0] - now) if due and idle else 1.0
        for key, _ in waiting.select(patience):
            answer = key.data.take()
            if answer is None:
                continue
            if not answer.startswith(b"HTTP/1.1 " + status):
                raise RuntimeError(answer[:400].decode())
            times.append(time.perf_counter() - key.data.asked_at)
            answers.append(answer)
            idle.append(key.data)
    return answers, times


def p95(times: list[float]) -> float:
    return quantiles(times, n=20)[-1] * 1000


if __name__ == "__main__":
    sys.stdout.write(f"\n{json.dumps(sign_up(**json.loads(sys.argv[2])))}\n")
