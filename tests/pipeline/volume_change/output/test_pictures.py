import io
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
import shapely
from numpy.typing import NDArray
from PIL import Image

from benchmarks.scenes import Bump
from pipeline.volume_change.output.pictures.canvas import WIDTH, png, printable, text_size, wrapped
from pipeline.volume_change.output.pictures.hull_view import hull_picture, layout_of
from pipeline.volume_change.output.pictures.labels import Box, Ground, place
from pipeline.volume_change.output.pictures.overview import headline, overview
from pipeline.volume_change.output.pictures.plan_view import turn_for
from pipeline.volume_change.output.pictures.relief_view import Camera, relief, small_gaps_closed
from pipeline.volume_change.output.pictures.scene import change_limit, scene_of, tint
from pipeline.volume_change.output.pictures.section import section_of
from pipeline.volume_change.types import Notice
from tests.pipeline.volume_change.output.synthetic import SIX, Site, make_analysis


def orange(pixels: NDArray[np.uint8]) -> NDArray[np.bool_]:
    r, g, b = (pixels[..., n].astype(int) for n in range(3))
    return (r - b > 70) & (r > g + 25)


def blue(pixels: NDArray[np.uint8]) -> NDArray[np.bool_]:
    r, _, b = (pixels[..., n].astype(int) for n in range(3))
    return b - r > 70


def on_map(site: Site) -> NDArray[np.uint8]:
    drawn = overview(make_analysis(site))
    left, top, width, height = (round(v) for v in drawn.map_box)
    return np.asarray(drawn.image)[top : top + height, left : left + width]


def test_a_cut_is_orange_and_where_it_happened() -> None:
    # in the middle of the site's eastern half, so three quarters of the way across the map
    pixels = on_map(Site(changes=(Bump(97.5, 65.0, 15.0, -2.0),)))
    rows, cols = np.nonzero(orange(pixels))
    assert cols.mean() / pixels.shape[1] == pytest.approx(0.743, abs=0.02)  # 3 % of the map are margin
    assert rows.mean() / pixels.shape[0] == pytest.approx(0.5, abs=0.02)
    assert not blue(pixels).any()


def test_a_fill_is_blue_and_north_is_up() -> None:
    pixels = on_map(Site(changes=(Bump(65.0, 97.5, 15.0, 2.0),)))
    rows, cols = np.nonzero(blue(pixels))
    assert rows.mean() / pixels.shape[0] == pytest.approx(0.257, abs=0.02)
    assert cols.mean() / pixels.shape[1] == pytest.approx(0.5, abs=0.02)
    assert not orange(pixels).any()


def test_ground_below_the_detection_limit_stays_grey() -> None:
    analysis = make_analysis(Site(changes=()))
    coloured = tint(scene_of(analysis), change_limit(analysis), analysis.errors.lod95)[..., 3] > 0
    assert coloured.mean() < 0.002


@pytest.mark.parametrize(
    "site",
    [
        pytest.param(Site(), id="six changes"),
        pytest.param(Site(changes=()), id="none"),
        pytest.param(Site(crs=None, holes=True), id="holes, no system"),
        pytest.param(Site(changes=(Bump(0.6, 0.5, 0.3, 0.1),), width=1.3, height=1.0, cell=0.02, noise=0.001,
                          relief=0.05, scale=0.01), id="a table top"),
        pytest.param(Site(changes=(Bump(5000, 5000, 800, 12),), width=15_000, height=12_000, cell=25, scale=30),
                     id="a county"),
        pytest.param(Site(changes=(Bump(300, 30, 20, 2),), width=1200, height=60, cell=2), id="a road"),
        pytest.param(Site(changes=(Bump(300, 300, 20, 2),), width=800, height=800, cell=4, band=40,
                          origin=(-7_512_345.0, -4_000_000.0, -20.0)), id="a diagonal strip"),
        pytest.param(Site(unit="US survey foot", names=("测量 $x_1$ <b>.laz", "")), id="odd names"),
    ],
)  # fmt: skip
def test_every_kind_of_site_gets_pictures_for_a_phone(site: Site) -> None:
    analysis = make_analysis(site)
    pictures = [overview(analysis).image]
    if analysis.hulls:
        pictures.append(hull_picture(analysis, 1))
    for picture in pictures:
        assert picture.width == WIDTH >= 1400
        assert 0.9 <= picture.height / picture.width <= 2.2
        assert np.asarray(picture).std() > 10  # not blank


def test_labels_of_eighty_hulls_do_not_overlap_and_stay_on_the_map() -> None:
    rng = np.random.default_rng(3)
    changes = tuple(
        Bump(float(x), float(y), float(r), float(h))
        for x, y, r, h in zip(
            rng.uniform(5, 295, 80), rng.uniform(5, 295, 80), rng.uniform(2, 9, 80), rng.choice([-1.0, 1.0], 80),
            strict=True,
        )
    )  # fmt: skip
    drawn = overview(make_analysis(Site(changes=changes, width=300, height=300, cell=1.0)))
    assert len(drawn.labels) >= 20
    assert not any(a.overlaps(b) for a, b in combinations(drawn.labels, 2))
    _, _, width, height = drawn.map_box
    assert all(box.inside(width, height, 0.0) for box in drawn.labels)


def test_a_label_that_does_not_fit_is_shortened_before_it_is_dropped() -> None:
    empty = Ground(np.zeros((10, 10), bool), 10.0)
    assert place([(50, 50)], [[(150, 20), (30, 20)]], (100, 100), empty)[0][0] == 1  # type: ignore[index]
    assert place([(50, 50)], [[(150, 20), (120, 20)]], (100, 100), empty) == [None]


def test_labels_keep_off_other_changes_and_off_what_is_taken() -> None:
    covered = np.zeros((20, 20), bool)
    covered[:, 10:] = True
    arrow = Box(0, 100, 200, 100)
    ((_, box),) = place([(100, 100)], [[(60, 20)]], (200, 200), Ground(covered, 10.0), [arrow])  # type: ignore[misc]
    assert box.left + box.width <= 100
    assert not box.overlaps(arrow)


def test_the_headline_says_the_net_volume_with_its_interval() -> None:
    analysis = make_analysis()
    totals = replace(analysis.totals, net_volume=5316.2, net_volume_ci95=(4412.8, 6219.6))
    assert headline(replace(analysis, totals=totals)) == "Net +5,316 m³ ± 900 (95 %)"
    assert headline(make_analysis(Site(changes=()))) == "No change found above 0.040 m"


def test_warnings_make_room_for_themselves() -> None:
    notices = tuple(Notice(f"N{n}", "The surveys disagree by −0.41 m on stable ground. " * 3) for n in range(6))
    plain, warned = (overview(make_analysis(Site(warnings=w))).image for w in ((), notices))
    assert warned.height > plain.height + 200


def test_the_section_crosses_the_deepest_point_and_shows_its_depth() -> None:
    analysis = make_analysis(Site(noise=0.0))
    section = section_of(analysis, 3, layout_of(analysis.hulls[2], 0.5).window)  # the pit of 1.5 m at (65, 65)
    assert np.nanmin(section.after - section.before) == pytest.approx(-1.5, abs=0.02)
    line = shapely.LineString(section.ends)
    assert line.distance(shapely.Point(65, 65)) < 0.5
    assert section.along[0] == 0
    assert section.along[-1] == pytest.approx(line.length)


def test_a_long_site_is_stood_up_and_a_compact_one_keeps_north_up() -> None:
    assert abs(turn_for(make_analysis(Site(changes=(), width=1200, height=60, cell=2)))) == pytest.approx(np.pi / 2)
    assert turn_for(make_analysis()) == 0.0


def test_a_wall_hides_what_is_behind_it() -> None:
    ground = np.zeros((60, 60))
    colour = np.full((60, 60, 3), 0.8, np.float32)
    colour[40:44, 20:40] = (1, 0, 0)
    walled = ground.copy()
    walled[30:32, :] = 40.0
    south = Camera(azimuth=np.pi / 2, exaggeration=1.0, bottom=-1.0, top=40.0)
    red = []
    for height in (ground, walled):
        picture = relief(height, colour, np.zeros((60, 60), bool), 1.0, south, (300, 300))
        red.append(int(((picture[..., 0] > 0.5) & (picture[..., 1] < 0.2) & (picture[..., 3] > 0)).sum()))
    assert red[0] > 200
    assert red[1] == 0
    assert south.seen_from == "south"


def test_the_relief_leaves_open_what_nobody_saw() -> None:
    ground = np.zeros((60, 60))
    ground[20:40, 20:40] = np.nan
    grey = np.full((60, 60, 3), 0.8, np.float32)
    camera = Camera(np.pi / 2, 1.0, -1.0, 1.0)
    picture = relief(ground, grey, np.zeros((60, 60), bool), 1.0, camera, (300, 200))
    assert picture[:, 150, 3].min() == 0
    shown = np.flatnonzero(picture[:, 150, 3])
    assert (np.diff(shown) > 5).any()  # a gap in the middle of the column


def test_only_small_gaps_are_closed() -> None:
    height = np.full((40, 40), 7.0)
    height[5, 5] = np.nan
    height[15:35, 15:35] = np.nan
    closed = small_gaps_closed(height)
    assert closed[5, 5] == pytest.approx(7.0)
    assert np.isnan(closed[25, 25])


def test_a_png_keeps_size_and_colours_to_the_eye() -> None:
    image = overview(make_analysis(Site(changes=SIX[:1]))).image
    back = Image.open(io.BytesIO(png(image)))
    assert back.size == image.size
    assert np.abs(np.asarray(back).astype(int) - np.asarray(image).astype(int)).max() <= 3


def test_texts_that_no_font_covers_are_still_drawable() -> None:
    assert printable("测 é ⚠ ³") == "? é ⚠ ³"


def test_wrapped_lines_fit_and_say_when_something_is_left_out() -> None:
    lines = wrapped("The surveys disagree on stable ground by a great deal. " * 5, 30.0, 600.0, 2)
    assert len(lines) == 2
    assert all(text_size(line, 30.0)[0] <= 600 for line in lines)
    assert lines[1].endswith("…")
