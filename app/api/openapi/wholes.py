"""Examples that hang together: a survey of a quarry, from the files that are still under way to the callback.

They are kept here and not with their models, since FastAPI leaves nulls out of what models say.
"""

from typing import Any

_ID = "0b9f6c0e-5d0c-4d0f-9a39-6a1d5d0a7c11"
_HOOK = "3f2c8a90-58b1-4e0e-9d0a-1f6b7c2d4e55"
_HOST = "http://127.0.0.1:8000"

SUMMARY: dict[str, Any] = {
    "id": _ID,
    "pipeline": "volume_change",
    "name": "Quarry, week 14",
    "status": "running",
    "stage": "comparing",
    "progress": 0.4,
    "eta": "2026-05-01T12:09:30Z",
    "attempts": 1,
    "cancelling": False,
    "created_at": "2026-05-01T12:00:00Z",
    "queued_at": "2026-05-01T12:07:10Z",
    "started_at": "2026-05-01T12:07:11Z",
    "finished_at": None,
    "error": None,
}

_ARRIVED = {
    "state": "finished",
    "offset": 48211034,
    "size": 48211034,
    "filename": "april.laz",
    "url": None,
    "error": None,
}
_UNDER_WAY = {
    "state": "open",
    "offset": 1048576,
    "size": None,
    "filename": "",
    "url": f"{_HOST}/files/2Qm0Zk3vXw9aT1sB7nQe5rYc",
    "error": None,
}

TASK: dict[str, Any] = {
    **SUMMARY,
    "status": "waiting",
    "stage": "",
    "progress": 0.0,
    "eta": None,
    "attempts": 0,
    "queued_at": None,
    "started_at": None,
    "options": {"min_score": 0.5},
    "queue_position": None,
    "steps": [],
    "missing": ["post", "shp", "shx"],
    "uploads": {"pre": _ARRIVED, "post": _UNDER_WAY},
    "callback_host": "hooks.example.com",
}

DELIVERY: dict[str, Any] = {
    "id": "7c1d2b5e-0f43-4c38-9a70-3c4f5f8d2e10",
    "task": _ID,
    "webhook": _HOOK,
    "event": "task.done",
    "state": "delivered",
    "created_at": "2026-05-01T12:09:40Z",
    "due_at": None,
    "settled_at": "2026-05-01T12:09:46Z",
    "attempts": [
        {"at": "2026-05-01T12:09:40Z", "status": 503, "error": None, "seconds": 0.12},
        {"at": "2026-05-01T12:09:46Z", "status": 204, "error": None, "seconds": 0.08},
    ],
}

KEY: dict[str, Any] = {
    "prefix": "3f9a1c07be",
    "name": "Drone 7",
    "owner": "quarry-north",
    "scopes": ["write"],
    "rate": None,
    "created_at": "2026-05-01T12:00:00Z",
    "expires_at": None,
    "revoked_at": None,
    "used_at": None,
}

WEBHOOK: dict[str, Any] = {
    "id": _HOOK,
    "name": "Site office",
    "host": "hooks.example.com",
    "events": ["task.done", "task.error", "task.killed"],
    "pipelines": [],
    "enabled": True,
    "disabled_at": None,
    "disabled_reason": None,
    "failing_since": None,
    "created_at": "2026-05-01T12:00:00Z",
}

WHOLES: dict[str, Any] = {
    "DeliveryOut": DELIVERY,
    "KeyOut": KEY,
    "NewKey": {**KEY, "key": "vk_3f9a1c07be_…"},
    "NewWebhook": {**WEBHOOK, "secret": "whsec_…"},
    "TaskOut": TASK,
    "TaskSummary": SUMMARY,
    "WebhookOut": WEBHOOK,
}
"""By the name of a schema, its example."""
