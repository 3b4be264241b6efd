"""The collector's tables, the same on SQLite and PostgreSQL."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

metadata = sa.MetaData()
Big = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

streams = sa.Table(
    "streams",
    metadata,
    sa.Column("stream", sa.String(64), primary_key=True),
    sa.Column("station", sa.String(64), nullable=False),
    sa.Column("upto", Big, nullable=False),
)
_part: tuple[tuple[str, Any], ...] = (
    ("station", sa.String(64)),
    ("line", sa.String(64)),
    ("epoch", Big),
    ("seq", Big),
)


def _part_key() -> list[sa.Column[object]]:
    return [sa.Column(name, kind, primary_key=True) for name, kind in _part]


records = sa.Table(
    "records",
    metadata,
    *_part_key(),
    sa.Column("part_id", sa.Text, nullable=False),
    sa.Column("outcome", sa.String(8), nullable=False, index=True),
    sa.Column("shadow", sa.Boolean, nullable=False),  # a trial run: not for the yield
    sa.Column("reasons", sa.Text, nullable=False),
    sa.Column("trigger_time_us", Big, nullable=False, index=True),
    sa.Column("latency_ms", sa.Float, nullable=False),
    sa.Column("recipe", sa.String(64), nullable=False),
    sa.Column("recipe_hash", sa.String(64), nullable=False),
    sa.Column("model_hash", sa.String(64), nullable=False),
    sa.Column("engine_id", sa.String(128), nullable=False),
    sa.Column("body", sa.LargeBinary, nullable=False),
)
contradictions = sa.Table(
    "contradictions",
    metadata,
    *_part_key(),
    sa.Column("outcome", sa.String(8), primary_key=True),
    sa.Column("body", sa.LargeBinary, nullable=False),
)
pictures = sa.Table(
    "pictures",
    metadata,
    *_part_key(),
    sa.Column("kind", sa.String(8), primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("x", sa.Integer, nullable=False),
    sa.Column("y", sa.Integer, nullable=False),
    sa.Column("width", sa.Integer, nullable=False),
    sa.Column("height", sa.Integer, nullable=False),
    sa.Column("sha256", sa.String(64), nullable=False),
    sa.Column("path", sa.Text, nullable=False),
)
losses = sa.Table(
    "losses",
    metadata,
    sa.Column("stream", sa.String(64), primary_key=True),
    sa.Column("row", Big, primary_key=True),
    sa.Column("what", sa.String(16), nullable=False),
    sa.Column("n", sa.Integer, nullable=False),
    sa.Column("bytes", Big, nullable=False),
    sa.Column("why", sa.Text, nullable=False),
)
refused = sa.Table(  # rows this collector cannot read, kept whole: the station forgets them
    "refused",
    metadata,
    sa.Column("stream", sa.String(64), primary_key=True),
    sa.Column("row", Big, primary_key=True),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("why", sa.Text, nullable=False),
    sa.Column("body", sa.LargeBinary, nullable=False),
    sa.Column("data", sa.LargeBinary, nullable=False),
)
