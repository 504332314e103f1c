"""Writes a new migration from the difference between models and database: `make revision ARGS="'What it does'"`.

The existing migrations make a database for the comparison; the new file gets the next number.

Its layout is the one that `make lint` wants.
"""

from __future__ import annotations

import re
import secrets
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from flask_migrate import revision, upgrade

from asapp import create_app
from config import Config

VERSIONS = Path(__file__).resolve().parent.parent / "migrations" / "versions"


def next_number() -> str:
    numbers = [int(match[0]) for path in VERSIONS.glob("*.py") if (match := re.match(r"\d+", path.name))]
    return f"{max(numbers) + 1:04}"


def main(arguments: list[str]) -> int:
    if len(arguments) != 1:
        print("say in one argument what the migration does", file=sys.stderr)
        return 2
    with TemporaryDirectory() as folder:
        config = Config(
            secret_key=secrets.token_urlsafe(32),
            encryption_keys=(secrets.token_bytes(32),),
            database_url=f"sqlite:///{folder}/empty.db",
            redis_url="redis://127.0.0.1:1/0",
            public_url="http://127.0.0.1:5000",
        )
        with create_app(config).app_context():
            upgrade()
            number = next_number()
            revision(message=arguments[0], autogenerate=True, rev_id=number)
    lay_out(next(VERSIONS.glob(f"{number}_*.py")))
    return 0


def lay_out(path: Path) -> None:
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(line for line in lines if not line.strip().startswith("# ###")))  # Alembic's own remarks
    for command in (["check", "--fix", "--quiet"], ["format", "--quiet"]):
        subprocess.run([sys.executable, "-m", "ruff", *command, str(path)], check=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
