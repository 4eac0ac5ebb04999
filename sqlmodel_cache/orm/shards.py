"""`ShardedSession` (SQLAlchemy's horizontal sharding): which shard a get goes to.

A shard is an engine, so its rows lie in a namespace of their own by themselves. What is needed
beside that is the identity token, by which the session tells rows of equal keys apart: the one
that the call names, or the only one that the session's `identity_chooser` names.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from sqlmodel_cache.orm import _sqlalchemy

if TYPE_CHECKING:
    from sqlalchemy.orm import Mapper, Session

_MODULE = "sqlalchemy.ext.horizontal_shard"  # nobody has a sharded session who has not imported it


def token_of(
    session: Session,
    mapper: Mapper[Any],
    pk: tuple[Any, ...],
    options: Mapping[str, Any],
    named: Any,
) -> Any:
    """Return the shard that a get of `pk` reads from, None if there may be several, or none.

    `named`: the call's own `identity_token`. None too for a session class with ways of its own.
    """
    module = sys.modules.get(_MODULE)
    if module is None or not _sqlalchemy.finds_identities_as(session, module.ShardedSession):
        return None
    if named is not None:
        return named
    sharded: Any = session
    chosen = list(
        sharded.identity_chooser(
            mapper, pk, lazy_loaded_from=None, execution_options=options, bind_arguments={}
        )
    )
    return chosen[0] if len(chosen) == 1 else None


def is_its_own(listener: Any) -> bool:
    """Tell whether this is the `do_orm_execute` listener that makes a ShardedSession one."""
    module = sys.modules.get(_MODULE)
    return module is not None and listener is module.execute_and_instances
