"""The process that decodes what strangers sent, and runs an image pipeline on it; capped, and without secrets.

It reads one file of JSON and writes events as JSON lines to its standard output: ``begin`` with the number of each
image before its first byte is looked at, ``found`` with what is in it, and ``error`` if it cannot go on.
"""

import hashlib
import json
import resource
import sys
import time
import traceback
from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pipeline import guard
from pipeline.errors import Defect, OutOfMemory, PipelineError
from pipeline.images import PIPELINES
from pipeline.images.contracts import Algorithm, Box, Classification, Config, Detection, Picture

DONE, DEFECT, UNUSABLE = 0, 1, 2
_MIB = 1 << 20
_BASE_MB = 512  # for the interpreter and a pipeline's libraries
_OUTPUT_MB = 64
_OUT_OF_MEMORY_FIRST = "500"  # rather this process than the service


def main(path: Path) -> int:
    """Do what the file says; return the exit status.

    Args:
        path: JSON with ``pipeline``, ``config``, ``max_pixels``, ``cpu_s`` and ``images``: of each its ``id``, the
            ``path`` of its file and ``given``, the detections that the client sent along, or null.
    """
    guard.die_with_parent()
    job = json.loads(path.read_bytes())
    _cap(job["max_pixels"], job["cpu_s"])
    try:
        pipeline = PIPELINES[job["pipeline"]]
        config: Config = pipeline.config.model_validate(job["config"])
        runner = PIPELINES.load(pipeline.slug)
        for number, image in enumerate(job["images"]):
            _tell("begin", number=number)
            began = time.perf_counter()
            picture = _picture(image, seed=config.seed, max_pixels=job["max_pixels"])
            found = list(runner(picture, config))
            _tell("found", detections=_documents(picture, found, time.perf_counter() - began))
    except PipelineError as error:
        _tell("error", **error.document())
        return UNUSABLE
    except MemoryError:
        message = "The pipeline needs more memory for it than it may take."
        _tell("error", **OutOfMemory(message, remedy="Send a smaller version.").document())
        return UNUSABLE
    except Exception as error:  # noqa: BLE001  (whatever a pipeline raises)
        _tell("error", **Defect(f"{type(error).__name__}: {error}"[:500], remedy="Please report it.").document())
        traceback.print_exc()
        return DEFECT
    return DONE


def _cap(max_pixels: int, cpu_s: int) -> None:
    """Take from this process what a hostile file could use: memory, time, disk, core files."""
    memory = _BASE_MB * _MIB + 12 * max_pixels  # decoded, converted, and room for the pipeline to work in
    for what, most in (
        (resource.RLIMIT_DATA, memory),
        (resource.RLIMIT_CPU, cpu_s),
        (resource.RLIMIT_FSIZE, _OUTPUT_MB * _MIB),
        (resource.RLIMIT_CORE, 0),
    ):
        with suppress(OSError, ValueError):  # somebody capped it lower already
            resource.setrlimit(what, (most, most))
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(_OUT_OF_MEMORY_FIRST)


def _picture(image: Mapping[str, Any], *, seed: int, max_pixels: int) -> Picture:
    from pipeline.images.decoding import decode  # Pillow: the one import that hostile bytes are fed to

    path = Path(image["path"])
    digest = hashlib.sha256(path.read_bytes() + seed.to_bytes(16, "big", signed=True)).digest()
    pixels = decode(path, label=image["id"], max_pixels=max_pixels)
    given = image.get("given")
    found = None if given is None else tuple(map(_given, given))
    return Picture(image["id"], pixels, int.from_bytes(digest[:8], "big"), found)


def _given(detection: Mapping[str, Any]) -> Detection:
    name = detection["algorithm"]
    algorithm = Algorithm(name["key"], name["name"], "detection", "")
    return Detection(Box(**detection["bbox"]), algorithm, crop_url=detection.get("crop_image_url"))


def _documents(picture: Picture, found: Iterable[Detection], seconds: float) -> list[dict[str, Any]]:
    now = datetime.now(UTC).isoformat()
    return [
        {
            "source_image_id": picture.id,
            "bbox": {"x1": each.box.x1, "y1": each.box.y1, "x2": each.box.x2, "y2": each.box.y2},
            "inference_time": round(seconds, 6),
            "algorithm": _reference(each.algorithm),
            "timestamp": now,
            "crop_image_url": each.crop_url,
            "classifications": [_classification(one, now) for one in each.classifications],
        }
        for each in found
    ]


def _classification(one: Classification, now: str) -> dict[str, Any]:
    return {
        "classification": one.label,
        "labels": list(one.algorithm.labels),
        "scores": list(one.scores),
        "logits": list(one.logits),
        "algorithm": _reference(one.algorithm),
        "terminal": one.terminal,
        "timestamp": now,
    }


def _reference(algorithm: Algorithm) -> dict[str, str]:
    return {"name": algorithm.name, "key": algorithm.key}


def _tell(event: str, **fields: Any) -> None:
    sys.stdout.write(json.dumps({"event": event, **fields}, allow_nan=False) + "\n")
    sys.stdout.flush()
