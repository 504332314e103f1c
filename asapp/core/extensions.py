"""Extensions of every process, created unbound and bound in create_app(). web/page_extensions.py has those for pages."""

from __future__ import annotations

from flask_mailman import Mail
from flask_sqlalchemy import SQLAlchemy

from asapp.core.database import Base

db = SQLAlchemy(model_class=Base, disable_autonaming=True)
mail = Mail()
