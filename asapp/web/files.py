"""Files to download. Names are ours; nothing that people typed is in them."""

from __future__ import annotations

from collections.abc import Iterator

from flask import Response, stream_with_context


def csv_file(content: str | Iterator[str], name: str) -> Response:
    """Return a CSV file.

    An iterator is sent piece by piece, after the request's session has ended: it must use ids and plain values, never a
    row.
    """
    pieces = content if isinstance(content, str) else stream_with_context(content)
    return as_file(Response(pieces, content_type="text/csv; charset=utf-8"), name)


def as_file(response: Response, name: str) -> Response:
    response.headers["Content-Disposition"] = f'attachment; filename="{name}"'
    return response
