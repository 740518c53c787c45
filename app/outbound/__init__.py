"""Requests to addresses that users name: checked, pinned, and bounded in size and time."""

from app.outbound.allow import AllowList
from app.outbound.budget import FetchFailed, Limits
from app.outbound.client import Answer, GuardedClient
from app.outbound.fetcher import BoundedFetcher
from app.outbound.files import WebFiles
from app.outbound.urls import Target

__all__ = ["AllowList", "Answer", "BoundedFetcher", "FetchFailed", "GuardedClient", "Limits", "Target", "WebFiles"]
