"""What `explain` returns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from sqlmodel_cache.causes import CAUSES
from sqlmodel_cache.events import Bypass
from sqlmodel_cache.orm.operate.inspection import EntryReport

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

Expected = Literal["hit", "miss", "bypass", "failure", "session", "uncached", "unknown"]


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why one call would, or would not, use the cache. `str()` of it is the whole story.

    Attributes:
        expected: what it would end in: "hit", "miss", "bypass" or "failure" as in `stats()`;
            "session": the session has the row already; "uncached": the model or the process has
            no cache; "unknown": nobody can tell before the first read of this engine.
        because: one sentence.
        reason: of a bypass, its name.
        remedy: what to do about it, empty where all is as it should be.
        namespace: which database the entry is of, None where it did not come to that.
        ttl: seconds for which a miss would store it, 0: it would not.
        entry: what the store has of a row, None where it was not asked.
        depends: of a `select()`, which changes end its result.
    """

    expected: Expected
    because: str
    reason: Bypass | None = None
    remedy: str = ""
    namespace: str | None = None
    ttl: int | None = None
    entry: EntryReport | None = None
    depends: tuple[str, ...] = ()

    def __str__(self) -> str:
        said = [f"{self.expected}: {self.because}"]
        if self.remedy:
            said.append(f"Remedy: {self.remedy}.")
        if self.entry is not None:
            said.append(f"Key: {self.entry.key} ({self.entry.label} in the log)")
            said.append(str(self.entry))
        if self.expected == "miss" and self.ttl is not None:
            what = "the result" if self.depends else "the row"
            said.append(f"A miss stores {what} for {self.ttl} s." if self.ttl else "It only reads.")
        if self.depends:
            said.append(f"It ends with: {'; '.join(self.depends)}.")
        return "\n".join(said)


def bypass(reason: Bypass, why: str = "") -> Explanation:
    """Explain a bypass; `why` is what in a statement is the reason, if one thing is."""
    cause = CAUSES[reason]
    because = why or cause.why
    return Explanation("bypass", f"{because} ({reason.value}).", reason, cause.remedy)


def unknown(session: Session, options: Mapping[str, Any], what: str) -> Explanation | None:
    """Explain that it cannot be told as long as there is something to flush, None if not so."""
    changed = session.new or session.deleted or session.dirty
    if not (changed and session.autoflush and options.get("autoflush", True)):
        return None
    return Explanation(
        "unknown",
        f"The session has changes that a {what} would flush first; whether it may use the cache"
        " after that depends on what they touch. Flush, then ask again.",
    )


NOT_YET_KNOWN: Final = Explanation(
    "unknown",
    "Which database this is is asked over the first connection of a read, and there was none yet."
    " Read a row first.",
)
