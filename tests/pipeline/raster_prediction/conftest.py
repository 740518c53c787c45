"""A sky to look at, and both steps of the pipeline run on it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray

from pipeline.contracts import Outcome, Run
from pipeline.raster_prediction import Params, predict, prepare
from pipeline.site import Site
from tests.rasters import BOX, Sky


@dataclass
class Found:
    """What both steps left."""

    first: Outcome
    last: Outcome
    folder: Path

    @property
    def document(self) -> dict[str, Any]:
        return self.last.document

    @property
    def area(self) -> dict[str, Any]:
        """The first place."""
        area: dict[str, Any] = self.document["areas"][0]
        return area

    def path(self, kind: str) -> Path:
        return self.folder / self.area["files"][kind]

    def map(self, kind: str) -> NDArray[Any]:
        with rasterio.open(self.path(kind)) as file:
            cells: NDArray[Any] = file.read(1)
            return cells

    @property
    def warnings(self) -> list[str]:
        return [warning["code"] for warning in self.document["warnings"]]


Predict = Callable[..., Found]


@pytest.fixture
def sky(tmp_path: Path) -> Sky:
    return Sky(tmp_path / "sky")


@pytest.fixture
def site(sky: Sky) -> Site:
    return Site(models=sky.models, sources=sky.folder / "sources")


@pytest.fixture
def predicted(tmp_path: Path, site: Site) -> Predict:
    """Run both steps; each call in folders of its own."""
    calls = iter(range(100))

    def both(model: str, *, site: Site = site, **options: Any) -> Found:
        params = Params.model_validate({"bboxes": [BOX], "model": model, "date": "2024-06-10", **options})
        folder = tmp_path / f"run{next(calls)}"
        (chips := folder / "chips").mkdir(parents=True)
        (maps := folder / "maps").mkdir()
        first = prepare.run(Run({}, chips, site=site), params)
        last = predict.run(Run({}, maps, before=chips, facts=first.document, site=site), params)
        for outcome, at in ((first, chips), (last, maps)):
            assert all((at / artifact.name).is_file() for artifact in outcome.artifacts)
        return Found(first, last, maps)

    return both


def known(cells: NDArray[Any]) -> NDArray[np.bool_]:
    return ~np.isnan(cells)
