"""Extensions that only pages and commands need; import them from asapp.core.extensions."""

from __future__ import annotations

from flask_limiter import Limiter
from flask_login import LoginManager
from flask_migrate import Migrate
from flask_wtf import CSRFProtect

from asapp.web.networks import client_network

migrate = Migrate()
login_manager = LoginManager()
csrf = CSRFProtect()
limiter = Limiter(key_func=client_network, headers_enabled=True, in_memory_fallback_enabled=True)
