"""Where things are, as links of the standard say it."""

from typing import TYPE_CHECKING, Any
from uuid import UUID

if TYPE_CHECKING:
    from app.context import Context

PREFIX = "/ogc"
REL = "http://www.opengis.net/def/rel/ogc/1.0/"
JSON = "application/json"
OPENAPI = "application/vnd.oai.openapi+json;version=3.0"


def href(context: "Context", path: str) -> str:
    """Return the public URL of a path below /ogc."""
    return f"{context.policy.public_url}{PREFIX}{path}"


def job_href(context: "Context", job_id: UUID, more: str = "") -> str:
    """Return the public URL of a job."""
    return href(context, f"/jobs/{job_id}{more}")


def link(context: "Context", path: str, rel: str, title: str, kind: str = JSON) -> dict[str, Any]:
    """Return a link to a path below /ogc."""
    return {"href": href(context, path), "rel": rel, "type": kind, "title": title}


def header(url: str, rel: str, kind: str = "", title: str = "") -> str:
    """Return one link as a ``Link`` header has it (RFC 8288).

    >>> header("http://h/ogc/jobs/7", "monitor", title='Its "status"')
    '<http://h/ogc/jobs/7>; rel=monitor; title="Its _status_"'
    """
    words = "".join(letter if " " <= letter <= "~" and letter not in '"\\' else "_" for letter in title)
    parts = [f"<{url}>", f"rel={rel}", *([f'type="{kind}"'] if kind else []), *([f'title="{words}"'] if words else [])]
    return "; ".join(parts)
