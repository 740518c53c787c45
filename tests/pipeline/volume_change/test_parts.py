"""A run whose parts are done elsewhere gives the same bytes as one that does all by itself."""

import json
import random
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from struct import pack_into, unpack_from

import numpy as np
import pytest

import app.samples
from pipeline.contracts import Done, Job, Run
from pipeline.errors import InputInvalid
from pipeline.formats.inspect_las import inspect_las
from pipeline.formats.las import read_las
from pipeline.formats.raw import Frame
from pipeline.formats.source import Source
from pipeline.spread.part import do
from pipeline.volume_change import Params
from pipeline.volume_change.parts import ground, heights, normals, reading
from pipeline.volume_change.run import run

TTP = Path(app.samples.__file__).parent / "ttp"
SAMPLE = {"pre": TTP / "pre_2015.laz", "post": TTP / "post_2023.laz", "shp": TTP / "stable_area.shp"}
_X_BOUNDS = 179  # in a LAS header: the greatest x, then the least
VARYING = ("timings", "peak_memory_mb", "parameters")


class Elsewhere:
    """Helpers that do all parts at once, in any order, in a place to which only what they asked for was brought."""

    def __init__(self, inputs: dict[str, Path], folder: Path) -> None:
        self.inputs = inputs
        self.folder = folder
        self.done: dict[str, int] = {}
        self.told: list[tuple[float, str]] = []

    def spread(self, function: str, jobs: Sequence[Job]) -> Iterator[Done]:
        numbers = list(range(len(jobs)))
        random.Random(4).shuffle(numbers)
        found = {
            number: self.one(function, jobs[number], self.folder / f"{len(self.done)}-{number}") for number in numbers
        }
        self.done[function] = self.done.get(function, 0) + len(jobs)
        return (found[number] for number in range(len(jobs)))

    def one(self, function: str, job: Job, folder: Path) -> Done:
        folder.mkdir(parents=True)
        wanted = {label: self.inputs[label] for label in job.inputs}, job.files
        inputs, files = (
            {
                name: Path(shutil.copy(path, folder / f"{kind}{number}"))
                for number, (name, path) in enumerate(each.items())
            }
            for kind, each in enumerate(wanted)
        )
        done = do(function, json.loads(json.dumps(job.arguments)), inputs, files, folder / "out")
        return Done(json.loads(json.dumps(done.result)), done.files)

    @staticmethod
    def brought(path: Path, to: Path) -> Path:
        return Path(shutil.copy(path, to))


def result(folder: Path, helpers: Elsewhere | None, inputs: dict[str, Path] = SAMPLE, **options: object) -> dict:
    folder.mkdir()
    told = [] if helpers is None else helpers.told
    context = Run(inputs, folder, report=lambda fraction, stage: told.append((fraction, stage)), helpers=helpers)
    outcome = run(context, Params(images=False, tile_points=9000, **options))
    for varying in VARYING:
        del outcome.document[varying]
    return outcome.document


@pytest.mark.parametrize("how", ["classified", "filter"])
def test_the_real_sample_is_the_same_whoever_does_its_parts(tmp_path: Path, how: str) -> None:
    elsewhere = Elsewhere(SAMPLE, tmp_path / "elsewhere")
    alone, together = result(tmp_path / "alone", None, ground=how), result(tmp_path / "together", elsewhere, ground=how)
    assert json.dumps(together) == json.dumps(alone)
    for name in ("hulls.geojson", "difference.tif", "changed_points.laz"):
        assert (tmp_path / "together" / name).read_bytes() == (tmp_path / "alone" / name).read_bytes()
    several = {reading.FUNCTION, heights.FUNCTION, normals.FUNCTION} | ({ground.FUNCTION} if how == "filter" else set())
    assert several == set(elsewhere.done)
    assert elsewhere.done[reading.FUNCTION] > 2
    assert elsewhere.done[normals.FUNCTION] > 2
    assert [fraction for fraction, _ in elsewhere.told] == sorted(fraction for fraction, _ in elsewhere.told)
    last = f"measuring part {elsewhere.done[normals.FUNCTION]} of {elsewhere.done[normals.FUNCTION]}"
    assert {"reading part 1 of 4", "reading part 4 of 4", last} <= {stage for _, stage in elsewhere.told}


def test_a_range_of_a_file_is_the_same_as_that_of_the_whole(tmp_path: Path) -> None:
    with SAMPLE["pre"].open("rb") as stream:
        source = Source("pre", stream, SAMPLE["pre"].stat().st_size)
        facts = inspect_las(source)
        frame = Frame(np.ones(3), np.zeros(3))
        whole = read_las(source, facts, frame)
        for first, last in ((0, 100), (50_000, 89_000), (49_999, 50_001)):
            some = read_las(source, facts, frame, span=range(first, last))
            assert some.points.tolist() == whole.points[first:last].tolist()


def test_damage_is_told_as_by_a_run_that_does_all_by_itself(tmp_path: Path) -> None:
    data = bytearray(SAMPLE["post"].read_bytes())
    least, most = unpack_from("<2d", data, _X_BOUNDS)[::-1]
    pack_into("<d", data, _X_BOUNDS, (least + most) / 2)  # its points go on where its header says that they end
    (tmp_path / "post_2023.laz").write_bytes(data)
    inputs = SAMPLE | {"post": tmp_path / "post_2023.laz"}
    told = []
    for name, helpers in (("alone", None), ("together", Elsewhere(inputs, tmp_path / "elsewhere"))):
        with pytest.raises(InputInvalid) as refused:
            result(tmp_path / name, helpers, inputs)
        told.append((refused.value.label, refused.value.message.replace("post (post_2023.laz)", "post")))
    assert told[0] == told[1]
