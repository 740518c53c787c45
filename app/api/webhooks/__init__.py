"""Webhooks at /api/v1/webhooks."""
