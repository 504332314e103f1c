"""What gunicorn and the flask command load: `gunicorn wsgi:app`, `flask --app wsgi …`."""

from __future__ import annotations

from asapp import create_app
from config import ConfigError

try:
    app = create_app()
except ConfigError as error:
    raise SystemExit(f"asapp can't start: {error}") from None
