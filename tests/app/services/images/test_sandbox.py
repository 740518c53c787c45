"""What becomes of a request whose pipeline, or whose image, misbehaves in the process that looks at it."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import psutil
import pytest

from app.services.images.errors import ImagePipelineFailed, ImagesInvalid, ImageTooLarge, ImageUnreadable
from app.services.images.parts import ImageLimits, Images, Stopped
from app.services.images.process import process
from app.services.images.schemas import ProcessRequest, ProcessResponse
from pipeline.images.contracts import ImagePipeline
from tests.images import picture
from tests.pipeline.trees import copy_of_pipeline

BODIES = {
    "sleeps": "    time.sleep(600)",
    "crashes": "    os.kill(os.getpid(), signal.SIGSEGV)",
    "eats": "    kept = [bytearray(1 << 24) for _ in range(1 << 10)]",
    "raises": "    raise RuntimeError(f'the password is {picture.id}')",
    "refuses": "    raise InputInvalid('It shows nothing.', label=picture.id, remedy='Send another one.')",
    "mumbles": '    os.write(1, b\'{"event": "found", "detections": [{}]}\\n\')\n    os._exit(0)',
    "floods": "    sys.stdout.write('x' * (1 << 27))",
    "begets": "    subprocess.Popen(['sleep', '987654'])\n    return ()",
}
HEAD = """\
import os, signal, subprocess, sys, time
from pipeline.errors import InputInvalid
from pipeline.images.contracts import ImagePipeline
"""


class Shelf:
    """A fetcher that has one image for every URL."""

    def fetch(self, url: str, into: BinaryIO, *, max_bytes: int, total_s: float) -> None:
        into.write(picture("PNG", (8, 8)))


def pipelines() -> dict[str, ImagePipeline]:
    return {name: ImagePipeline(name, name, name, f"pipeline.images.bad:{name}", ()) for name in BODIES}


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tree = copy_of_pipeline(tmp_path_factory.mktemp("bad"))
    functions = [f"def {name}(picture, config):\n{body}\n" for name, body in BODIES.items()]
    listed = [f'ImagePipeline("{name}", "", "", "pipeline.images.bad:{name}", ()),' for name in BODIES]
    (tree / "images/bad.py").write_text(HEAD + "\n".join(functions) + f"\nPIPELINES = [{' '.join(listed)}]\n")
    with (tree / "images/__init__.py").open("a") as registry:
        registry.write("\nfrom pipeline.images import bad\nPIPELINES = Registry(bad.PIPELINES)\n")
    return tree


@pytest.fixture
def ask(tree: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., ProcessResponse]:
    monkeypatch.setenv("PYTHONPATH", str(tree.parent))
    images = Images(Shelf(), pipelines(), ImageLimits(pixels=1000))

    def look(name: str, **more: Any) -> ProcessResponse:
        source = [{"id": "first", "url": "http://images.example.com/1"}]
        return process(images, ProcessRequest.model_validate({"pipeline": name, "source_images": source}), **more)

    return look


@pytest.mark.parametrize(
    ("name", "kind", "words"),
    [
        ("crashes", ImageUnreadable, "Image 'first' cannot be used: it ended the process that looked at it"),
        ("eats", ImageTooLarge, "needs more memory"),
        ("raises", ImagePipelineFailed, "Image 'first' could not be processed."),
        ("refuses", ImageUnreadable, "Image 'first' cannot be used: It shows nothing."),
        ("mumbles", ImagePipelineFailed, "The pipeline's answer cannot be used."),
        ("floods", ImagesInvalid, "Image 'first'"),
    ],
)
def test_the_request_fails_with_the_image_and_nothing_else_does(
    ask: Callable[..., ProcessResponse], name: str, kind: type[ImagesInvalid], words: str
) -> None:
    with pytest.raises(kind) as failed:
        ask(name)
    assert str(failed.value).startswith(words) or words in str(failed.value)
    assert "password" not in str(failed.value)
    assert failed.value.remedy


def test_a_pipeline_that_never_ends_is_ended_with_the_request(ask: Callable[..., ProcessResponse]) -> None:
    with pytest.raises(ImagePipelineFailed, match="was not done when the time of the request was over"):
        ask("sleeps", seconds=3)
    assert not [each for each in psutil.Process().children() if "pipeline.images" in " ".join(each.cmdline())]


def test_a_service_that_stops_gives_the_request_back(ask: Callable[..., ProcessResponse]) -> None:
    began = time.monotonic()
    with pytest.raises(Stopped):
        ask("sleeps", stopping=lambda: time.monotonic() > began + 1)
    assert not [each for each in psutil.Process().children() if "pipeline.images" in " ".join(each.cmdline())]


def test_what_a_pipeline_leaves_running_is_ended(ask: Callable[..., ProcessResponse]) -> None:
    assert ask("begets").detections == []
    assert not [each for each in psutil.process_iter(["cmdline"]) if "987654" in (each.info["cmdline"] or ())]
