"""How lookups of one model go in one cache: answered, compared, left alone, and what share.

Worked out once per model and configuration; None stands for the usual case, so that a hit
pays for one comparison. The model's own settings come first, as with `ttl`; the environment's
limit holds whatever code says, so that an operator needs no release to stop reads.
"""

from __future__ import annotations

from dataclasses import dataclass
from logging import DEBUG
from typing import Final

from sqlmodel_cache import _state
from sqlmodel_cache.config import MODES, CacheConfig, Configuration, Mode
from sqlmodel_cache.errors import ConfigurationError
from sqlmodel_cache.events import Bypass, logger

_STRICTNESS: Final[dict[Mode, int]] = {mode: number for number, mode in enumerate(MODES)}


@dataclass(frozen=True, slots=True)
class Conduct:
    """What is unusual about the lookups of one model.

    `bypass`: why none of them uses the cache. `shadow`: the database answers all of them.
    `sample`, `verify`: shares, from 0 to 1. `tells`: each lookup is told to the log, at DEBUG.
    """

    bypass: Bypass | None
    shadow: bool
    sample: float
    verify: float
    tells: bool = False


def limit_from_environment() -> Mode:
    """Return what `SQLMODEL_CACHE_MODE` allows at most; raises ConfigurationError for others."""
    said = (_state.environment("MODE") or "on").lower()
    for mode in MODES:
        if mode == said:
            return mode
    raise ConfigurationError(
        f"SQLMODEL_CACHE_MODE is none of {', '.join(MODES)}: set one of them, or unset it"
    )


def conduct_of(
    config: Configuration,
    own: CacheConfig,
    limit: Mode,
    *,
    off: bool = False,
    foreign: bool = False,
) -> Conduct | None:
    """Return how lookups of a model with the policy `own` go; None: they just use the cache.

    `off`: the whole deployment was told to leave it alone. `foreign`: some processes hide its
    keys by another secret.
    """
    if off:
        return Conduct(Bypass.SWITCHED_OFF, shadow=False, sample=0.0, verify=0.0)
    if foreign:
        return Conduct(Bypass.KEY_SECRET, shadow=False, sample=0.0, verify=0.0)
    mode = config.mode if own.mode is None else own.mode
    mode = max(mode, limit, key=_STRICTNESS.__getitem__)
    sample = config.sample if own.sample is None else own.sample
    verify = config.verify if own.verify is None else own.verify
    if mode == "invalidate":
        return Conduct(Bypass.INVALIDATE, shadow=False, sample=0.0, verify=0.0)
    tells = logger.isEnabledFor(DEBUG)
    if mode == "on" and sample >= 1 and verify <= 0 and not tells:
        return None
    return Conduct(None, mode == "shadow", sample, verify, tells)
