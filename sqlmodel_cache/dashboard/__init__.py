"""A page that shows what the cache does: `app.mount("/cache", cache_dashboard(may_see=...))`."""

from __future__ import annotations

from sqlmodel_cache.dashboard.app import cache_dashboard, nobody

__all__ = ("cache_dashboard", "nobody")
