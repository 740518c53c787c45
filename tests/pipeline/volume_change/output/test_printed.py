"""The printed report, as another program reads it."""

import io
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from pypdf import PdfReader

from pipeline.volume_change.output import words
from pipeline.volume_change.output.document import document, image_names
from pipeline.volume_change.output.printed.report import report_pdf
from pipeline.volume_change.types import Analysis, Notice
from tests.pipeline.volume_change.output.synthetic import SIX, Bump, Site, make_analysis

MANY = tuple(Bump(5.0 + n % 12 * 10, 5.0 + n // 12 * 10, 3.0, 0.5) for n in range(120))
TWICE = """
import hashlib, sys
from tests.pipeline.volume_change.output.test_printed import printed
from tests.pipeline.volume_change.output.synthetic import make_analysis
print(hashlib.sha256(printed(make_analysis())).hexdigest())
"""


def picture(colour: str, size: tuple[int, int] = (72, 155)) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, colour).save(buffer, "JPEG")
    return buffer.getvalue()


def printed(analysis: Analysis, most: int = 50, **params: object) -> bytes:
    names = image_names(analysis.hulls, images=True, max_hull_images=most)
    found = document(
        analysis, params={"cell": None, "ground": "auto", **params}, timings={"reading": 1.25}, peak_memory_mb=321.0,
        versions={"volcal-server": "9.9", "numpy": "2.4.6"}, images=names,
    )  # fmt: skip
    named = [name for name in dict.fromkeys(names) if name != "overview.png"]
    previews = {name: picture(f"rgb({number * 20}, 0, 0)") for number, name in enumerate(named)}
    return report_pdf(analysis, found, previews, picture("blue"))


def pages(content: bytes) -> list[str]:
    return [re.sub(r"\s+", " ", page.extract_text()) for page in PdfReader(io.BytesIO(content)).pages]


def test_the_same_analysis_gives_the_same_bytes_in_another_process_and_at_another_time() -> None:
    root = Path(__file__).parents[4]
    digests = {
        subprocess.run(
            [sys.executable, "-c", TWICE], cwd=root, check=True, capture_output=True, text=True,
            env={**os.environ, "PYTHONHASHSEED": seed, "TZ": zone, "SOURCE_DATE_EPOCH": seed},
        ).stdout
        for seed, zone in (("1", "UTC"), ("2", "Asia/Tokyo"))
    }  # fmt: skip
    assert len(digests) == 1
    assert "/CreationDate" not in (PdfReader(io.BytesIO(printed(make_analysis()))).metadata or {})


def test_every_page_is_a4_and_numbered() -> None:
    content = printed(make_analysis())
    for page in PdfReader(io.BytesIO(content)).pages:
        assert [round(float(v) * 25.4 / 72) for v in page.mediabox[2:]] == [210, 297]
    found = pages(content)
    assert all(f"Page {n} of {len(found)}" in text for n, text in enumerate(found, 1))
    assert "Volcal 9.9" in found[0]


def test_the_first_page_says_what_a_client_asks_first() -> None:
    notice = Notice("STABLE_BIAS", "The surveys disagree by −0.41 m on stable ground.")
    analysis = make_analysis(Site(warnings=(notice,)))
    first = pages(printed(analysis))[0]
    fill, cut = (sum(b.volume for b in SIX if (b.height > 0) is up) for up in (True, False))
    half = 0.04 * (fill - cut) + 1.0  # of the synthetic totals
    assert f"Net −{-(fill + cut):.0f} m³ ± {half:.0f}" in first
    assert f"{-cut:.0f} m³ ± {half:.0f}" in first
    assert f"+{fill + cut + half:.0f} m³".replace("+-", "−") in first
    assert "EPSG:26917, NAD83 / UTM zone 17N" in first
    assert "lengths in metres, areas in m², volumes in m³" in first
    assert "site_2015.laz: 67,600 points" in first
    assert "disagree by −0.41 m on stable ground. (STABLE_BIAS)" in first
    assert "Signature" in first


def test_the_tables_hold_every_change_with_its_intervals_and_place() -> None:
    text = " ".join(pages(printed(make_analysis())))
    # the mound of 1.2 m and 8 m radius: 71.74 m³; the synthetic half width is 5 % + 0.3 m³ = 3.9 m³; at (35, 40)
    assert "+71.7 +67.9 to +75.6" in text
    assert "1 ground 97 % 630,035.0 4,830,040.0 +1.20" in text
    assert "−0.41 m; removed before volumes were taken" in text
    assert "0.040 m: a smaller change cannot be told from error (95 %)" in text
    assert "cell: chosen from the data; ground: auto" in text
    assert "1.25" not in text, "a timing would make each run's report another one"


def test_a_table_goes_on_over_pages_under_its_head() -> None:
    found = pages(printed(make_analysis(Site(changes=MANY, cell=2.0)), most=0))
    with_head = [text for text in found if "cut, m³ 95 % interval" in text]
    assert len(with_head) >= 3
    listed = {int(n) for text in found for n in re.findall(r"(\d+) ground (?:\d+ %|under)", text)}
    assert listed == set(range(1, 121))


def test_of_very_many_changes_the_surest_are_listed_and_the_others_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.volume_change.output.printed.report._MOST", 20)
    analysis = make_analysis(Site(changes=MANY, cell=2.0))
    text = " ".join(pages(printed(analysis, most=0)))
    assert "100 more that are less sure are in results.json" in text
    assert {int(n) for n in re.findall(r"(\d+) ground (?:\d+ %|under)", text)} == set(range(1, 21))
    assert f"all {words.area(analysis.totals.area).removesuffix(' m²')}" in text


def test_each_change_is_shown_two_on_a_page_and_none_twice() -> None:
    shown = [len(page.images) for page in PdfReader(io.BytesIO(printed(make_analysis(), most=5))).pages]
    assert [count for count in shown if count] == [1, 2, 2, 1]


def test_the_reader_has_a_table_of_contents_and_a_title() -> None:
    reader = PdfReader(io.BytesIO(printed(make_analysis())))
    assert [entry.title for entry in reader.outline if not isinstance(entry, list)][:2] == ["Overview", "Changes"]
    assert reader.metadata is not None
    assert reader.metadata.title == "Volume change: site_2015.laz → site_2023.laz"


def test_a_site_without_changes_or_coordinate_system_says_so() -> None:
    text = " ".join(pages(printed(make_analysis(Site(changes=(), crs=None, unit="US survey foot")))))
    assert "No change found above 0.040 m" in text
    assert "none named in the files" in text
    assert "the files' own unit, US survey foot, was converted" in text


@pytest.mark.parametrize("name", ["测量 \N{GRINNING FACE}.laz", "a" * 240 + ".laz", "**b** {nb} <b>.laz", "x\n\ty.laz"])
def test_odd_names_neither_break_nor_dress_the_report(name: str) -> None:
    notice = Notice("ODD", f"About {name}: " + "it is long and goes on. " * 200)
    found = pages(printed(make_analysis(Site(names=(name, "b.laz"), warnings=(notice,) * 3))))
    assert "Page 1 of" in found[0]
    if "**" in name:
        assert "**b**" in found[0]
        assert "<b>" in found[0]


def test_a_report_with_very_many_pictures_stays_small_enough_to_mail(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.volume_change.output.facts._BUDGET", 2000)
    content = printed(make_analysis())
    assert sum(len(page.images) for page in PdfReader(io.BytesIO(content)).pages) < 7
    assert "+71.7 +67.9 to +75.6" in " ".join(pages(content)), "the table is whole"
