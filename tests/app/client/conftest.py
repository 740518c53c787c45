from tests.app.api.tasks.following.conftest import live

__all__ = ["live"]
