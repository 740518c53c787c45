"""The last stage of a run: draw the pictures, write the result folder, hand back what was written."""

import platform
import resource
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from PIL.Image import Image
from PIL.Image import open as open_image

from pipeline.contracts import Artifact, Outcome
from pipeline.volume_change.output.artifacts import document_bytes, write_file, write_results
from pipeline.volume_change.output.document import document, image_names
from pipeline.volume_change.types import Analysis

_PACKAGES = ("volcal-server", "numpy", "scipy", "numba", "shapely", "laspy", "rasterio", "pyproj", "matplotlib")


def present(
    analysis: Analysis,
    outdir: Path,
    *,
    images: bool,
    max_hull_images: int,
    params: Mapping[str, Any],
    timings: Mapping[str, float],
    report: Callable[[float, str], None],
) -> Outcome:
    """Write everything that people and programs see of an analysis.

    Args:
        analysis: The finished analysis.
        outdir: The result folder; exists.
        images: Whether to draw pictures and the reports.
        max_hull_images: Draw at most this many hulls, best first.
        params: The options of the run, JSON-ready; they go into the document.
        timings: Seconds by stage so far; drawing and writing are added.
        report: Called with the fraction of this stage that is done (0 to 1, never falling) and its name.

    Returns:
        The result document and the files, most useful first.

    Raises:
        StorageFull: If a file cannot be written.
    """
    names = image_names(analysis.hulls, images=images, max_hull_images=max_hull_images)
    spent, started = dict(timings), time.perf_counter()
    pictures: tuple[Artifact, ...] = ()
    previews: dict[str, bytes] = {}
    if images:
        pictures, previews = _draw(analysis, outdir, names[:max_hull_images], report)
        spent["pictures"] = time.perf_counter() - started
    report(0.85, "writing files")
    started = time.perf_counter()
    files = write_results(analysis, outdir, names)
    spent["files"] = time.perf_counter() - started
    written = document(
        analysis, params=params, timings=spent, peak_memory_mb=peak_memory_mb(), versions=versions(), images=names
    )
    if images:
        from pipeline.volume_change.output.printed.report import report_pdf
        from pipeline.volume_change.output.report import report_html

        write_file(outdir / "report.html", report_html(analysis, written, previews))
        write_file(outdir / "report.pdf", report_pdf(analysis, written, previews, _for_paper(outdir / "overview.png")))
        reports = (
            Artifact("report.html", "text/html", "Report"),
            Artifact("report.pdf", "application/pdf", "Report to print (A4)"),
        )
        pictures = (*reports, *pictures)
    # last, so that a folder with a result document is a complete one
    write_file(outdir / "results.json", document_bytes(written))
    report(1.0, "done")
    return Outcome(written, (Artifact("results.json", "application/json", "Result document"), *pictures, *files))


def _draw(
    analysis: Analysis, outdir: Path, names: tuple[str, ...], report: Callable[[float, str], None]
) -> tuple[tuple[Artifact, ...], dict[str, bytes]]:
    """Draw and write every picture; return them, and a smaller copy of each for the report."""
    # here and not on top: the plotting library takes a second to load, and runs without pictures spare it
    from pipeline.volume_change.output.pictures.hull_view import hull_picture
    from pipeline.volume_change.output.pictures.overview import overview

    report(0.0, "drawing pictures")
    todo: list[tuple[str, str, Callable[[], Image]]] = [
        ("overview.png", "Overview of the site", lambda: overview(analysis).image)
    ]
    for number, name in enumerate(names, 1):
        todo.append((name, f"Change {number}", partial(hull_picture, analysis, number)))
    previews: dict[str, bytes] = {}
    with ThreadPoolExecutor(1) as writer:  # compressing leaves the interpreter free to draw the next one
        pending: Future[bytes] | None = None
        waiting = ""
        for done, (name, _, draw) in enumerate(todo):
            image = draw()
            if pending is not None:
                previews[waiting] = pending.result()
            pending, waiting = writer.submit(_save, image, outdir / name, _preview_width(len(todo))), name
            report(0.85 * (done + 1) / len(todo), "drawing pictures")
        if pending is not None:
            previews[waiting] = pending.result()
    return tuple(Artifact(name, "image/png", title) for name, title, _ in todo), previews


def _save(image: Image, path: Path, preview: int) -> bytes:
    from pipeline.volume_change.output.pictures.canvas import jpeg, png

    write_file(path, png(image))
    return jpeg(image, preview)


def _for_paper(path: Path) -> bytes:
    """Return a picture in its full size, as paper shows more than a screen."""
    from pipeline.volume_change.output.pictures.canvas import jpeg

    with open_image(path) as image:
        return jpeg(image, image.width, quality=88)


def _preview_width(pictures: int) -> int:
    """Return how wide the report shows pictures, px: fewer may be larger."""
    return 1080 if pictures <= 21 else 800


def versions() -> dict[str, str]:
    """Return what ran: the version of Python and of each package that decides a number."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def peak_memory_mb() -> float:
    """Return the most memory that this process has held, MiB."""
    status = Path("/proc/self/status")
    if status.exists():  # on Linux ru_maxrss also counts the parent's memory at the fork
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 1024
