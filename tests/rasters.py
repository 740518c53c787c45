"""Small skies: scenes whose every cell is known, a catalogue of them, and models whose answer is known exactly."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pyproj
import rasterio
from affine import Affine
from numpy.typing import NDArray
from onnx import TensorProto, helper
from rasterio.warp import transform_bounds

BOX = (15.0, 47.0, 15.02, 47.015)
"""Lies in zone 33 north, east of its central meridian."""
CELL = 30.0
LEFT, TOP = 499_200.0, 5_209_980.0
ROWS, COLUMNS = 220, 140
EMPTY = -9999
CLOUD = 0b10  # bit 1 of HLS' Fmask

Cells = NDArray[np.int16]


def plain(value: float) -> Cells:
    """Return a band that is the same everywhere, as files have it: reflectance in ten thousandths."""
    return np.full((ROWS, COLUMNS), round(value * 10_000), np.int16)


def sloping(low: float, high: float, *, down: bool = False) -> Cells:
    """Return a band that rises from west to east, or from north to south."""
    across = np.linspace(low, high, ROWS if down else COLUMNS)
    cells = np.broadcast_to(across[:, None] if down else across, (ROWS, COLUMNS))
    return (cells * 10_000).round().astype(np.int16)


def place_of(lon: float, lat: float) -> tuple[int, int]:
    """Return row and column of the cell in which a place lies, by pyproj alone."""
    x, y = pyproj.Transformer.from_crs(4326, 32633, always_xy=True).transform(lon, lat)
    return int((TOP - y) // CELL), int((x - LEFT) // CELL)


def cells_of(path: Path) -> tuple[slice, slice]:
    """Return which cells of a scene a map shows."""
    with rasterio.open(path) as file:
        column, row = round((file.bounds.left - LEFT) / CELL), round((TOP - file.bounds.top) / CELL)
        return slice(row, row + file.height), slice(column, column + file.width)


@dataclass
class Sky:
    """A folder with a static catalogue, models and a source."""

    folder: Path

    def __post_init__(self) -> None:
        for name in ("catalogue", "models", "sources"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        self._items: list[str] = []
        self.source()

    @property
    def catalogue(self) -> Path:
        """The catalogue's file."""
        return self.folder / "catalogue" / "catalog.json"

    @property
    def models(self) -> Path:
        return self.folder / "models"

    def source(self, name: str = "sky", **changes: Any) -> None:
        """Write a source's manifest; by default with HLS' scale and mask, and the bands red and nir."""
        collection = {
            "id": "sky",
            "assets": {"red": "B04", "nir": "B05"},
            "scale": 0.0001,
            "nodata": EMPTY,
            "mask": {"asset": "Fmask", "bits": [1, 3], "nodata": 255},
        }
        manifest = {"name": name, "catalogue": str(self.catalogue), "collections": [collection | changes]}
        (self.folder / "sources" / f"{name}.json").write_text(json.dumps(manifest))

    def scene(
        self,
        name: str,
        day: str,
        red: Cells,
        nir: Cells,
        *,
        mask: NDArray[np.uint8] | None = None,
        clouds: float | None = 0.0,
        crs: str = "EPSG:32633",
        transform: Affine = Affine(CELL, 0, LEFT, 0, -CELL, TOP),  # noqa: B008  (a constant)
        hrefs: dict[str, str] | None = None,
        more: dict[str, Any] | None = None,
    ) -> Path:
        """Add a scene; return its folder."""
        folder = self.folder / "catalogue" / name
        folder.mkdir()
        clear = np.zeros(red.shape, np.uint8)
        files = {"B04": red, "B05": nir, "Fmask": clear if mask is None else mask}
        for asset, cells in files.items():
            with rasterio.open(
                folder / f"{asset}.tif",
                "w",
                driver="GTiff",
                dtype=cells.dtype.name,
                count=1,
                height=cells.shape[0],
                width=cells.shape[1],
                crs=crs,
                transform=transform,
                tiled=True,
                blockxsize=64,
                blockysize=64,
            ) as file:
                file.write(cells, 1)
                bounds = transform_bounds(crs, "EPSG:4326", *file.bounds)
        item = self._item(name, day, list(bounds), clouds, {a: f"./{a}.tif" for a in files} | (hrefs or {}), more or {})
        (folder / "item.json").write_text(json.dumps(item))
        self._items.append(name)
        self._list()
        return folder

    def _item(
        self,
        name: str,
        day: str,
        bounds: list[float],
        clouds: float | None,
        hrefs: dict[str, str],
        more: dict[str, Any],
    ) -> dict[str, Any]:
        west, south, east, north = bounds
        ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
        about = {} if clouds is None else {"eo:cloud_cover": clouds}
        return {
            "type": "Feature",
            "stac_version": "1.0.0",
            "id": name,
            "collection": "sky",
            "bbox": bounds,
            "geometry": {"type": "Polygon", "coordinates": [ring]},
            "properties": {"datetime": f"{day}T10:00:00Z", **about},
            "links": [
                {"rel": "self", "href": "./item.json"},
                {"rel": "collection", "href": "../collection.json"},
                {"rel": "parent", "href": "../collection.json"},
            ],
            "assets": {asset: {"href": href, **more} for asset, href in hrefs.items()},
        }

    def _list(self) -> None:
        root = {"type": "Catalog", "stac_version": "1.0.0", "id": "root", "description": "A small sky"}
        links = [{"rel": "child", "href": "./collection.json"}]
        self.catalogue.write_text(json.dumps(root | {"links": links}))
        collection = {
            "type": "Collection",
            "stac_version": "1.0.0",
            "id": "sky",
            "description": "Its scenes",
            "license": "CC0-1.0",
            "extent": {"spatial": {"bbox": [[-180, -90, 180, 90]]}, "temporal": {"interval": [[None, None]]}},
            "links": [{"rel": "item", "href": f"./{name}/item.json"} for name in self._items],
        }
        (self.catalogue.parent / "collection.json").write_text(json.dumps(collection))

    def model(self, name: str, graph: onnx.ModelProto, **manifest: Any) -> Path:
        """Add a model; return its folder."""
        folder = self.models / name
        folder.mkdir()
        content = graph.SerializeToString()
        (folder / "model.onnx").write_bytes(content)
        told = {
            "name": name,
            "sha256": hashlib.sha256(content).hexdigest(),
            "source": "sky",
            "bands": ["red", "nir"],
            "resolution": CELL,
            "chip_size": 32,
            "overlap": 8,
            **manifest,
        }
        (folder / "model.json").write_text(json.dumps(told))
        return folder

    def water(self, name: str = "water", **manifest: Any) -> Path:
        """Add a model of two classes: water is where the red exceeds the infrared, its probability a logistic one."""
        classes = [{"name": "land", "colour": "#336633"}, {"name": "water", "colour": "#3366cc"}]
        return self.model(name, band_ratio(gain=4.0), **({"output": "logits", "classes": classes} | manifest))

    def greenness(self, name: str = "greenness", **manifest: Any) -> Path:
        """Add a model whose answer is the vegetation index."""
        quantity = {"name": "NDVI", "shown": [-1, 1]}
        return self.model(name, band_ratio(), **({"output": "value", "quantity": quantity} | manifest))


def ndvi(red: Cells, nir: Cells) -> NDArray[np.float64]:
    """Return the vegetation index of what files have."""
    red, nir = red.astype(np.float64), nir.astype(np.float64)
    index: NDArray[np.float64] = (nir - red) / (nir + red)
    return index


def band_ratio(*, gain: float | None = None) -> onnx.ModelProto:
    """Return a network of (nir − red) / (nir + red); with a gain, one of the logits 0 and −gain times that."""
    channels = 1 if gain is None else 2
    nodes = [
        helper.make_node("Split", ["x"], ["red", "nir"], axis=1, num_outputs=2),
        helper.make_node("Sub", ["nir", "red"], ["difference"]),
        helper.make_node("Add", ["nir", "red"], ["sum"]),
        helper.make_node("Max", ["sum", "tiny"], ["safe"]),
        helper.make_node("Div", ["difference", "safe"], ["y" if gain is None else "index"]),
    ]
    constants = {"tiny": np.array(1e-6, np.float32)}
    if gain is not None:
        constants |= {"none": np.array(0, np.float32), "gain": np.array(-gain, np.float32)}
        nodes += [
            helper.make_node("Mul", ["index", "none"], ["land"]),
            helper.make_node("Mul", ["index", "gain"], ["water"]),
            helper.make_node("Concat", ["land", "water"], ["y"], axis=1),
        ]
    return network(nodes, (1, 2, "h", "w"), (1, channels, "h", "w"), constants)


def network(
    nodes: Iterable[onnx.NodeProto],
    given: tuple[int | str, ...],
    answer: tuple[int | str, ...],
    constants: dict[str, NDArray[Any]] | None = None,
) -> onnx.ModelProto:
    """Return a network from ``x`` to ``y``."""
    graph = helper.make_graph(
        list(nodes),
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, given)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, answer)],
        [onnx.numpy_helper.from_array(value, name) for name, value in (constants or {}).items()],
    )
    model: onnx.ModelProto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model)
    return model
