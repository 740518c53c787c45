"""Whatever is done to a file, the answer is a result or a coded refusal: never a crash, never another error."""

import random
from pathlib import Path

import pytest
from pyproj import CRS

from pipeline.errors import PipelineError
from pipeline.volume_change.read import read_surveys
from tests.pipeline.formats import files

POINTS = files.terrain()
UTM = CRS.from_epsg(26917)
GOOD = files.las_bytes(files.terrain(seed=2))
GOOD_UTM = files.las_bytes(files.terrain(seed=2), crs=UTM)
SHP, SHX = files.stable_bytes()
VICTIMS = {
    "las": ("pre", files.las_bytes(POINTS, compressed=False, point_format=3)),
    "laz, points as a whole": ("pre", files.las_bytes(POINTS, point_format=1)),
    "laz, layered": ("post", files.las_bytes(POINTS, crs=UTM)),
    "laz, GeoTIFF keys": ("pre", files.las_bytes(POINTS, point_format=3, crs=UTM, geokeys=True)),
    "copc": ("pre", files.copc_bytes(POINTS)),
    "ply": ("pre", files.ply_bytes(POINTS)),
    "ply big-endian": ("post", files.ply_bytes(POINTS, "binary_big_endian")),
    "ply text": ("pre", files.ply_bytes(POINTS, "ascii")),
    "xyz": ("pre", files.xyz_bytes(POINTS)),
    "csv": ("post", files.xyz_bytes(POINTS, ",", "x,y,z\n")),
    "shp": ("shp", SHP),
    "shx": ("shx", SHX),
    "prj": ("prj", UTM.to_wkt("WKT1_ESRI").encode()),
}


def damaged(content: bytes, rng: random.Random) -> bytes:
    """Return the content cut, or with bits or words changed, or with bytes missing; headers suffer most."""
    changed = bytearray(content)
    kind = rng.random()
    if kind < 0.25:
        return bytes(changed[: rng.randrange(len(changed))])
    reach = min(len(changed), 700) if rng.random() < 0.5 else len(changed)
    for _ in range(rng.choice([1, 1, 2, 8])):
        at = rng.randrange(max(1, min(reach, len(changed))))
        if kind < 0.6 and changed:
            changed[at] ^= 1 << rng.randrange(8)
        elif kind < 0.9:
            changed[at : at + 4] = bytes(rng.choice([0, 1, 127, 128, 255]) for _ in range(4))
        else:
            del changed[at : at + rng.randrange(1, 50)]
    return bytes(changed)


@pytest.mark.case(14, 15)
@pytest.mark.parametrize(("label", "content"), VICTIMS.values(), ids=VICTIMS.keys())
def test_two_hundred_damages_end_in_a_result_or_a_coded_refusal(label: str, content: bytes, tmp_path: Path) -> None:
    rng = random.Random(len(content))
    ends = set()
    good = GOOD_UTM if label == "prj" else GOOD
    for _ in range(200):
        inputs = files.write(tmp_path, good, good, **{label: damaged(content, rng)})
        try:
            surveys = read_surveys(inputs)
        except PipelineError as refusal:
            ends.add(refusal.code if refusal.remedy else "no remedy")
        else:
            ends.add("result" if surveys.stable.is_valid else "invalid polygons")
    assert "result" in ends
    assert ends & {"INPUT_INVALID", "STABLE_AREA_EMPTY"}
    assert ends <= {"result", "INPUT_INVALID", "INPUT_TOO_LARGE", "STABLE_AREA_EMPTY", "REGISTRATION_FAILED"}
