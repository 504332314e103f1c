"""The test client, which looks at every page it opens."""

from __future__ import annotations

from typing import Any

from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from asapp.extensions import db


class CheckingClient(FlaskClient):
    def open(self, *args: Any, **kwargs: Any) -> TestResponse:
        db.session.rollback()  # a test's own transaction must not be in the way of the request's
        response = super().open(*args, **kwargs)
        db.session.expire_all()  # what the test holds is read again
        return response
