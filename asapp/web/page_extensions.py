"""Extensions that only pages and commands need; import them from asapp.core.extensions."""

from __future__ import annotations

import time

from flask_limiter import Limiter
from flask_login import LoginManager
from flask_migrate import Migrate
from flask_wtf import CSRFProtect

from asapp.web.networks import client_network

migrate = Migrate()
login_manager = LoginManager()
csrf = CSRFProtect()
limiter = Limiter(key_func=client_network, in_memory_fallback_enabled=True)


def until_limit_ends_s() -> float:
    """Return after how many seconds a request that was limited may come again. Asked only then: it costs two calls of Redis."""
    limit = limiter.current_limit
    return max(0.0, limit.reset_at - time.time()) if limit else 60.0
