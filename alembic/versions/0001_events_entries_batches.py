"""Events, entries and batches: the first schema.

What stands here never changes again: journals in the field were made by it.
"""

from __future__ import annotations

import sqlalchemy as sa

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_TABLES = ("events", "entries")


def upgrade() -> None:
    op.create_table(
        "events",
        sa.Column("seq", sa.Integer, primary_key=True),
        sa.Column("run_id", sa.String, nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("type", sa.String, nullable=False),
        sa.Column("type_version", sa.Integer, nullable=False),
        sa.Column("recorded_at", sa.String, nullable=False),
        sa.Column("payload", sa.Text, nullable=False),
        sa.Column("hash", sa.String, nullable=False),
        sa.UniqueConstraint("run_id", "version", name="events_run_version"),
    )
    op.create_table(
        "entries",
        sa.Column("seq", sa.Integer, primary_key=True),
        sa.Column("run_id", sa.String, nullable=False),
        sa.Column("batch", sa.Integer, nullable=False),
        sa.Column("phase", sa.String, nullable=False),
        sa.Column("kind", sa.String, nullable=False),
        sa.Column("entity_id", sa.Text, nullable=False),
        sa.Column("action", sa.String, nullable=False),
        sa.Column("before_digest", sa.String),
        sa.Column("after_digest", sa.String),
        sa.Column("before_image", sa.Text),
        sa.Column("written", sa.Text),
        sa.Column("reason", sa.Text),
        sa.Column("bumped", sa.Text),
    )
    op.create_table(
        "batches",
        sa.Column("run_id", sa.String, primary_key=True),
        sa.Column("batch", sa.Integer, primary_key=True),
        sa.Column("phase", sa.String, nullable=False),
        sa.Column("kind", sa.String, nullable=False),
        sa.Column("operation", sa.String, nullable=False),
        sa.Column("shape", sa.Text, nullable=False),
        sa.Column("rows", sa.Integer, nullable=False),
        sa.Column("digest", sa.String, nullable=False),
        sa.Column("writes", sa.Boolean, nullable=False),
        sa.Column("status", sa.String, nullable=False),
        sa.Column("first_entry", sa.Integer, nullable=False),
        sqlite_with_rowid=False,
    )
    for table in _TABLES:
        for verb in ("update", "delete"):
            op.execute(
                f"CREATE TRIGGER {table}_no_{verb} BEFORE {verb.upper()} ON {table} "
                f"BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END"
            )
    op.execute(
        """CREATE VIEW taken_back AS
SELECT e.run_id, e.kind, e.entity_id
FROM entries e JOIN batches b ON b.run_id = e.run_id AND b.batch = e.batch
WHERE e.phase = 'rollback' AND b.status = 'applied' AND e.action IN ('deleted', 'restored', 'unchanged')"""
    )
    op.execute(
        """CREATE VIEW applied_entries AS
SELECT e.*
FROM entries e JOIN batches b ON b.run_id = e.run_id AND b.batch = e.batch
WHERE e.phase = 'forward' AND b.status = 'applied'
AND (e.run_id, e.kind, e.entity_id) NOT IN (SELECT run_id, kind, entity_id FROM taken_back)"""
    )


def downgrade() -> None:
    for view in ("applied_entries", "taken_back"):
        op.execute(f"DROP VIEW {view}")
    for table in ("batches", *_TABLES):
        op.drop_table(table)
