"""The report: one page that opens offline, prints well, and explains its own numbers."""

import base64
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from pipeline.volume_change.output import facts
from pipeline.volume_change.output.document import all_warnings
from pipeline.volume_change.types import Analysis


def report_html(analysis: Analysis, document: Mapping[str, Any], previews: Mapping[str, bytes]) -> bytes:
    """Return the report as one self-contained HTML file.

    Args:
        analysis: The finished analysis.
        document: The result document of the same run.
        previews: JPEG pictures by their path below the result folder; what exceeds about 10 MiB is left out.
    """
    page = _environment().get_template("report.html.j2").render(
        doc=document,
        hulls=[facts.of_hull(n, hull) for n, hull in enumerate(analysis.hulls, 1)],
        totals=facts.of_totals(analysis.totals),
        site=facts.of_totals(analysis.site),
        facts=facts.of_analysis(analysis, document),
        warnings=all_warnings(analysis),
        pictures={name: _embedded(content) for name, content in facts.within_budget(previews).items()},
        made=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    )  # fmt: skip
    return page.encode()


def _environment() -> Environment:
    # file names and messages come from strangers, so everything is escaped
    return Environment(
        loader=PackageLoader("pipeline.volume_change.output"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _embedded(content: bytes) -> Markup:
    return Markup("data:image/jpeg;base64," + base64.b64encode(content).decode())  # noqa: S704  # our own bytes
