"""Tables whose rows are written once: the database refuses to change or delete them.

forbid_changes("consent_events")          # in upgrade(), behind create_table
allow_changes("consent_events")           # in downgrade()
"""

from __future__ import annotations

from alembic import op

FUNCTION = "refuse_change_of_append_only"
SQLITE_VERBS = ("update", "delete")


def forbid_changes(table: str) -> None:
    if op.get_bind().dialect.name == "sqlite":
        for verb in SQLITE_VERBS:
            op.execute(
                f"CREATE TRIGGER {table}_no_{verb} BEFORE {verb.upper()} ON {table} "
                f"BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END"
            )
        return
    op.execute(
        f"CREATE OR REPLACE FUNCTION {FUNCTION}() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE EXCEPTION '% is append-only', TG_TABLE_NAME USING ERRCODE = 'restrict_violation'; END $$"
    )
    op.execute(
        f"CREATE TRIGGER {table}_append_only BEFORE UPDATE OR DELETE ON {table} "
        f"FOR EACH ROW EXECUTE FUNCTION {FUNCTION}()"
    )
    op.execute(
        f"CREATE TRIGGER {table}_no_truncate BEFORE TRUNCATE ON {table} "
        f"FOR EACH STATEMENT EXECUTE FUNCTION {FUNCTION}()"
    )


def allow_changes(table: str) -> None:
    if op.get_bind().dialect.name == "sqlite":
        for verb in SQLITE_VERBS:
            op.execute(f"DROP TRIGGER {table}_no_{verb}")
        return
    op.execute(f"DROP TRIGGER {table}_append_only ON {table}")
    op.execute(f"DROP TRIGGER {table}_no_truncate ON {table}")


def only_blanking(table: str, kept: tuple[str, ...], blanked: tuple[str, ...]) -> None:
    """Allow rows of the table to be emptied, with the time in erased_at; refuse deletion and every other change."""
    same = " AND ".join(f"NEW.{name} IS NOT DISTINCT FROM OLD.{name}" for name in kept)
    empty = " AND ".join(f"NEW.{name} = ''" for name in blanked)
    is_blanking = f"{same} AND {empty} AND NEW.erased_at IS NOT NULL"
    words = f"{table} can only be blanked"
    if op.get_bind().dialect.name == "sqlite":
        is_blanking = is_blanking.replace("IS NOT DISTINCT FROM", "IS")
        op.execute(
            f"CREATE TRIGGER {table}_only_blanked BEFORE UPDATE ON {table} WHEN NOT ({is_blanking}) "
            f"BEGIN SELECT RAISE(ABORT, '{words}'); END"
        )
        op.execute(
            f"CREATE TRIGGER {table}_no_delete BEFORE DELETE ON {table} BEGIN SELECT RAISE(ABORT, '{words}'); END"
        )
        return
    op.execute(
        f"CREATE FUNCTION {table}_only_blanked() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        f"IF TG_OP = 'UPDATE' THEN IF {is_blanking} THEN RETURN NEW; END IF; END IF; "
        f"RAISE EXCEPTION '{words}' USING ERRCODE = 'restrict_violation'; END $$"
    )
    op.execute(
        f"CREATE TRIGGER {table}_only_blanked BEFORE UPDATE OR DELETE ON {table} "
        f"FOR EACH ROW EXECUTE FUNCTION {table}_only_blanked()"
    )
    op.execute(
        f"CREATE TRIGGER {table}_no_truncate BEFORE TRUNCATE ON {table} "
        f"FOR EACH STATEMENT EXECUTE FUNCTION {table}_only_blanked()"
    )


def allow_blanking(table: str) -> None:
    """Drop what only_blanking() made."""
    if op.get_bind().dialect.name == "sqlite":
        op.execute(f"DROP TRIGGER {table}_only_blanked")
        op.execute(f"DROP TRIGGER {table}_no_delete")
        return
    op.execute(f"DROP TRIGGER {table}_only_blanked ON {table}")
    op.execute(f"DROP TRIGGER {table}_no_truncate ON {table}")
    op.execute(f"DROP FUNCTION {table}_only_blanked()")
