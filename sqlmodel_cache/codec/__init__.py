"""Rows and primary keys as bytes, exactly. What the floors above need of it is named here."""

from sqlmodel_cache.codec.columns import column_codec
from sqlmodel_cache.codec.envelope import (
    ANNOTATED,
    EPOCH,
    NEGATIVE,
    Envelope,
    Miss,
    Origin,
    seal,
    unseal,
)
from sqlmodel_cache.codec.pk import PkCodec
from sqlmodel_cache.codec.row import ColumnSpec, RowCodec
from sqlmodel_cache.codec.sameness import same
from sqlmodel_cache.codec.wire import ABSENT, Undecodable, Unstorable

__all__ = (
    "ABSENT",
    "ANNOTATED",
    "EPOCH",
    "NEGATIVE",
    "ColumnSpec",
    "Envelope",
    "Miss",
    "Origin",
    "PkCodec",
    "RowCodec",
    "Undecodable",
    "Unstorable",
    "column_codec",
    "same",
    "seal",
    "unseal",
)
