import base64
import re
from html.parser import HTMLParser

import pytest

from pipeline.volume_change.output.document import document, image_names
from pipeline.volume_change.output.report import report_html
from pipeline.volume_change.types import Analysis, Notice
from tests.pipeline.volume_change.output.synthetic import Site, make_analysis

PICTURE = b"\xff\xd8 a picture \xff\xd9"


class Reader(HTMLParser):
    """Collects tags, and texts outside of styles."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self._open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "style":
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag == "style":
            self._open.pop()

    def handle_data(self, data: str) -> None:
        if not self._open:
            self.words.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.words))


def read(analysis: Analysis, previews: dict[str, bytes] | None = None) -> tuple[bytes, Reader]:
    names = image_names(analysis.hulls, images=True, max_hull_images=50)
    found = document(
        analysis, params={"cell": None, "ground": "auto"}, timings={"reading": 1.25}, peak_memory_mb=321.0,
        versions={"numpy": "2.4.6"}, images=names,
    )  # fmt: skip
    if previews is None:
        previews = dict.fromkeys(("overview.png", *names), PICTURE)
    page = report_html(analysis, found, previews)
    reader = Reader()
    reader.feed(page.decode())
    return page, reader


def test_the_report_needs_no_network() -> None:
    page, reader = read(make_analysis())
    sources = [attrs[name] or "" for _, attrs in reader.tags for name in ("src", "href", "srcset") if name in attrs]
    assert sources
    assert all(source.startswith("data:image/jpeg;base64,") for source in sources)
    assert b"@import" not in page
    assert b"url(" not in page
    assert not [tag for tag, _ in reader.tags if tag in {"script", "link", "iframe"}]


def test_pictures_are_inside_and_described_for_those_who_do_not_see_them() -> None:
    _, reader = read(make_analysis())
    images = [attrs for tag, attrs in reader.tags if tag == "img"]
    assert len(images) == 7  # the overview and six changes
    assert all(len(attrs["alt"] or "") > 30 for attrs in images)
    assert base64.b64decode((images[0]["src"] or "").partition(",")[2]) == PICTURE


def test_the_numbers_of_each_change_are_said_with_their_error() -> None:
    _, reader = read(make_analysis())
    # the mound of 1.2 m and 8 m radius: 71.74 m³; the synthetic half width is 5 % + 0.3 m³ = 3.9 m³
    assert "+71.7 m³ ± 3.9" in reader.text
    assert "97 %" in reader.text
    assert "−0.41 m ; removed" in reader.text or "−0.41 m; removed" in reader.text
    assert "identity + vertical offset" in reader.text
    assert "EPSG:26917" in reader.text
    assert "321 MiB" in reader.text
    assert "1.25 s" in reader.text


def test_names_and_messages_cannot_smuggle_markup() -> None:
    notice = Notice("ODD", "<img src=x onerror=alert(1)>")
    site = Site(names=("<script>alert(1)</script>.laz", "b&b.laz"), warnings=(notice,))
    page, reader = read(make_analysis(site))
    assert "script" not in {tag for tag, _ in reader.tags}
    assert b"onerror=alert(1)>" not in page
    assert "<img src=x onerror=alert(1)>" in reader.text


def test_warnings_come_before_the_pictures() -> None:
    notice = Notice("STABLE_BIAS", "The surveys disagree by −0.41 m on stable ground.")
    page, _ = read(make_analysis(Site(warnings=(notice,))))
    assert 0 < page.index("disagree by −0.41 m".encode()) < page.index(b"<img")


def test_no_change_is_said_in_words() -> None:
    _, reader = read(make_analysis(Site(changes=(), crs=None)))
    assert "No change found above 0.040 m" in reader.text
    assert "none named in the files" in reader.text


@pytest.mark.parametrize("size_mb", [1, 3])
def test_the_report_stays_small_enough_to_mail_however_many_pictures_there_are(size_mb: int) -> None:
    many = {"overview.png": b"o" * 1000} | {f"hulls/h{n:03d}.png": b"x" * size_mb * 2**20 for n in range(1, 7)}
    many |= {f"hulls/x{n}.png": b"x" * size_mb * 2**20 for n in range(30)}
    page, reader = read(make_analysis(), many)
    assert len(page) < 15_000_000
    assert "img" in {tag for tag, _ in reader.tags}
    assert "+71.7 m³ ± 3.9" in reader.text  # the table is whole
