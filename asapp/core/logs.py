"""Logs: one JSON object a line on stderr, with ids, and never a name, an address, a token, a query or a body.

The ids bound by `about` (run_id, connection_id, request_id …) are on every line of its block; `extra` adds to one line.
Exceptions are logged as types and places: their text may hold rows, unless their class says `is_safe_to_log`. Libraries
are kept at levels where they don't log what they carry (authlib's DEBUG prints code verifiers, urllib3's the addresses
with their queries); of their messages only arguments that look like an id or a number are kept. The patterns at the end
catch what slips through.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import threading
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
OURS = "asapp"
LEVELS: Mapping[str, int] = {
    **dict.fromkeys(
        (
            *("authlib", "requests", "requests_oauthlib", "simple_salesforce", "urllib3"),
            *("rq", "rq.worker", "rq.job", "redis", "limits", "flask-limiter"),
            *("alembic", "sqlalchemy", "psycopg", "werkzeug", "concurrent", "asyncio"),
        ),
        logging.WARNING,
    ),
    "rq_scheduler": logging.ERROR,  # a standby scheduler would say so every few seconds
}
KEPT_WORDS = 1000  # characters of a message or of one value
DEEPEST_CAUSE = 5

_about: ContextVar[Mapping[str, Any]] = ContextVar("log_about", default={})  # noqa: B039 - replaced, never changed


@contextmanager
def about(**ids: int | str | None) -> Iterator[None]:
    """Put these ids on every line that is logged in this block."""
    token = _about.set({**_about.get(), **ids})
    try:
        yield
    finally:
        _about.reset(token)


def configure() -> None:
    """Set logging up for this process as described above. Repeating it changes nothing."""
    root = logging.getLogger()
    if not any(isinstance(handler, JsonHandler) for handler in root.handlers):
        root.addHandler(JsonHandler())
        root.setLevel(logging.WARNING)
        logging.getLogger(OURS).setLevel(logging.INFO)
    for name, level in LEVELS.items():
        logging.getLogger(name).setLevel(level)


def log_what_ends_us() -> None:
    """Log an uncaught exception, which ends the process or a thread, like all other lines; its own text may hold rows."""
    sys.excepthook = _log_uncaught
    threading.excepthook = _log_uncaught_of_thread


class JsonHandler(logging.StreamHandler[Any]):
    """Writes to the current sys.stderr."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)
        self.setFormatter(JsonFormatter())

    @property
    def stream(self) -> Any:
        return sys.stderr


class JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": _harmless(_message(record)),
            "process": record.process,
        }
        for name, value in {**_about.get(), **_extras(record)}.items():
            line.setdefault(name, _plain(value))
        if record.exc_info and record.exc_info[1] is not None:
            line["error"] = describe(record.exc_info[1])
        return json.dumps(line)


def describe(error: BaseException) -> dict[str, Any]:
    """Return {type, at: our frames and the last one, because: types of the causes}; no values."""
    found: dict[str, Any] = {"type": _type_name(error), "at": _places(error.__traceback__)}
    if getattr(error, "is_safe_to_log", False):
        found["said"] = _harmless(str(error))
    causes = [_type_name(cause) for cause in _causes(error)]
    if causes:
        found["because"] = causes
    return found


def _message(record: logging.LogRecord) -> str:
    if not isinstance(record.msg, str):  # an object, most often an exception
        return type(record.msg).__name__
    try:
        if _is_ours(record.name):
            return record.getMessage()
        return record.msg % _ids_only(record.args) if record.args else record.msg
    except (TypeError, ValueError, KeyError):
        return record.msg


def _is_ours(name: str) -> bool:
    return name == OURS or name.startswith(f"{OURS}.")


def _ids_only(arguments: Any) -> Any:
    """Return the arguments of a library's message; a value that is no number and no id becomes the name of its type."""
    if isinstance(arguments, Mapping):
        return {name: _id_or_type(value) for name, value in arguments.items()}
    return tuple(_id_or_type(value) for value in arguments)


def _id_or_type(value: Any) -> Any:
    is_id = isinstance(value, str) and LOOKS_LIKE_ID.fullmatch(value)
    return value if is_id or isinstance(value, int | float | None) else f"({type(value).__name__})"


def _extras(record: logging.LogRecord) -> dict[str, Any]:
    if not _is_ours(record.name):
        return {}  # RQ gives a job's arguments
    return {name: value for name, value in vars(record).items() if name not in STANDARD}


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | float):
        return value
    return _harmless(str(value)) if isinstance(value, str | datetime) else f"({type(value).__name__})"


def _harmless(text: str) -> str:
    """Return text on one line, without what looks like an e-mail address, a token, a query or a password."""
    kept = CONTROL.sub(" ", _shortened(text))
    for pattern, instead in PATTERNS:
        kept = pattern.sub(instead, kept)
    return kept


def _shortened(text: str) -> str:
    """Return the beginning of a long text, up to a whole word: half an address might not look like one."""
    if len(text) <= KEPT_WORDS:
        return text
    kept = text[:KEPT_WORDS]
    if not text[KEPT_WORDS].isspace():
        kept = kept.rpartition(" ")[0]
    return f"{kept}…"


def _type_name(error: BaseException) -> str:
    kind = type(error)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _places(trace: TracebackType | None) -> list[str]:
    frames = [(frame.f_code.co_filename, line, frame.f_code.co_name) for frame, line in traceback.walk_tb(trace)]
    return [
        f"{_short(path)}:{line} {name}"
        for number, (path, line, name) in enumerate(frames, 1)
        if number == len(frames) or Path(path).is_relative_to(ROOT / OURS)
    ]


def _short(path: str) -> str:
    _, in_library, below = path.rpartition("site-packages/")
    if in_library:
        return below
    return str(Path(path).relative_to(ROOT)) if Path(path).is_relative_to(ROOT) else Path(path).name


def _causes(error: BaseException) -> Iterator[BaseException]:
    for _ in range(DEEPEST_CAUSE):
        cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
        if cause is None:
            return
        yield cause
        error = cause


def _log_uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        return
    logging.getLogger(OURS).critical("the process ends", exc_info=(kind, error, trace))


def _log_uncaught_of_thread(told: threading.ExceptHookArgs) -> None:
    """RQ's thread that listens to Redis raises what it doesn't know, a time-out for one."""
    if told.exc_value is not None and not issubclass(told.exc_type, SystemExit):
        logging.getLogger(OURS).error("a thread ends", exc_info=(told.exc_type, told.exc_value, told.exc_traceback))


STANDARD = frozenset({*vars(logging.LogRecord("", 0, "", 0, "", (), None)), "message", "asctime"})
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")
LOOKS_LIKE_ID = re.compile(r"[\w.:-]{1,64}", re.ASCII)
# Each scans a text once: where one can't match from the beginning of a word, it isn't tried from the middle of it.
PATTERNS = (
    (re.compile(r"\A(?>(.*?)\bSELECT\b).+?\bFROM\b.*"), r"\1[query]"),
    (re.compile(r"://[^/\s@]*@"), "://[log-in]@"),
    (re.compile(r"(?<![\w.+%'-])[\w.+%'-]+@[\w-]+(?:\.[\w-]+)+"), "[address]"),
    (re.compile(r"(?<=[\w/])\?[\w.%-]+=\S*"), "?[query]"),
    (re.compile(r"(?i)\b(bearer|basic)\s+\S+"), r"\1 [token]"),
    (re.compile(r"\b00D\w{12,15}!\S+|\b5Aep\S{8,}|\beyJ(?>[\w-]+)\.[\w.-]+|\bv1\.[0-9a-f]{8}\.\S+"), "[token]"),
    (re.compile(r"(?<![\w-])[\w-]{48,}"), "[token]"),
)
