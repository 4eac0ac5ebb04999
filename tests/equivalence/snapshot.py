"""Everything that can be seen of an instance and the session around it, without changing either."""

from __future__ import annotations

from typing import Any

from sqlalchemy import inspect
from sqlalchemy.ext.mutable import MutableBase
from sqlalchemy.orm import Session

_PYDANTIC = ("__pydantic_private__", "__pydantic_fields_set__", "__pydantic_extra__")


def snapshot(session: Session, instance: Any) -> dict[str, Any]:
    """Return facts that must be the same after a hit as after a load."""
    if instance is None:
        return {"instance": None, "session": session_facts(session)}
    state = inspect(instance)
    values = {key: value for key, value in vars(instance).items() if value is not state}
    facts: dict[str, Any] = {
        "class": type(instance),
        "persistent": state.persistent,
        "key": state.key,
        "in session": instance in session,
        "session": state.session is session,
        "identity map": session.identity_map.get(state.key) is instance,
        "loaded": {key: values[key] for key in sorted(values)},
        "expired attributes": set(state.expired_attributes),
        "unloaded": set(state.unloaded),
        "expired": state.expired,
        "modified": state.modified,
        "committed state": dict(state.committed_state),
        "history": {
            attribute.key: attribute.history.has_changes()
            for attribute in state.attrs
            if attribute.key in state.dict
        },
        "load path": str(state.load_path),
        "load options": state.load_options,
        "callables": sorted(state.callables),
        "parents": len(state.parents),
        "mutables": {
            key: list(value._parents.values())
            for key, value in sorted(values.items())
            if isinstance(value, MutableBase) and state in value._parents
        },
        "strong": state._strong_obj is not None,
        "is modified": session.is_modified(instance),
        "around": session_facts(session),
    }
    for name in _PYDANTIC:
        if hasattr(type(instance), "model_fields"):
            facts[name] = getattr(instance, name, "missing")
    return facts


def session_facts(session: Session) -> dict[str, Any]:
    """Return what can be seen of a session's transaction and of its objects."""
    return {
        "in transaction": session.in_transaction(),
        "nested": session.in_nested_transaction(),
        "active": session.is_active,
        "new": len(session.new),
        "dirty": len(session.dirty),
        "deleted": len(session.deleted),
        "objects": len(session.identity_map),
    }
