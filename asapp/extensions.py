"""Extensions, created unbound and bound in create_app().

Those that only pages need are made when somebody asks for them: a worker, which has no pages, stays 15 MB smaller without
the libraries behind them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flask_mailman import Mail
from flask_sqlalchemy import SQLAlchemy

from asapp.database import Base

if TYPE_CHECKING:
    from asapp.web.extensions import csrf, limiter, login_manager, migrate

OF_PAGES = ("csrf", "limiter", "login_manager", "migrate")

db = SQLAlchemy(model_class=Base, disable_autonaming=True)
mail = Mail()


def __getattr__(name: str) -> Any:
    if name not in OF_PAGES:
        raise AttributeError(name)
    from asapp.web import extensions

    return getattr(extensions, name)


__all__ = ["csrf", "db", "limiter", "login_manager", "mail", "migrate"]
