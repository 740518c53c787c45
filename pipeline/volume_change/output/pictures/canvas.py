"""The sheet that pictures are drawn on: fixed width for a phone, type that stays legible there, one palette."""

import io
import warnings
from functools import cache
from typing import Any

import numpy as np
from matplotlib import font_manager
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.transforms import Affine2D, Transform
from numpy.typing import NDArray
from PIL import Image

WIDTH = 1440  # px: a phone shows it at about 390, so 40 px here are 11 there
MARGIN = 48
DPI = 200

# orange and blue stay apart for every common kind of colour blindness, and in print
CUT = "#d95f02"
FILL = "#1f5fa8"
INK = "#1d232b"
MUTED = "#5a6570"
PAPER = "#ffffff"
PALE = "#eef1f4"
STABLE = "#46535e"
WARN = "#fff4d6"

CHANGE = LinearSegmentedColormap.from_list(
    "cut_fill",
    [
        (0.0, "#6b2a00"), (0.16, "#b34700"), (0.32, "#ef8a2c"), (0.44, "#fbc98e"), (0.5, "#f7f5f0"),
        (0.56, "#a9cdec"), (0.68, "#4a90cf"), (0.84, "#1a5597"), (1.0, "#0a2450"),
    ],
)  # fmt: skip


class Sheet:
    """A picture under construction, measured in pixels from the top left corner."""

    def __init__(self, height: int, width: int = WIDTH) -> None:
        self.width, self.height = width, height
        self.figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI, facecolor=PAPER)
        self.canvas = FigureCanvasAgg(self.figure)
        self._pasted: list[tuple[Image.Image, tuple[int, int]]] = []

    def axes(self, left: float, top: float, width: float, height: float, **options: Any) -> Axes:
        """Return axes over a rectangle."""
        box = (left / self.width, 1 - (top + height) / self.height, width / self.width, height / self.height)
        return self.figure.add_axes(box, **options)

    def text(self, left: float, top: float, words: str, size: float, **style: Any) -> None:
        """Write one line whose top left corner is given; ``size`` in pixels."""
        options = {"color": INK, "ha": "left", "va": "top"} | style
        self.figure.text(
            left / self.width, 1 - top / self.height, printable(words), fontsize=points(size), parse_math=False,
            **options,
        )  # fmt: skip

    def block(self, left: float, top: float, width: float, height: float, color: str) -> None:
        """Fill a rectangle."""
        corner = (left / self.width, 1 - (top + height) / self.height)
        size = (width / self.width, height / self.height)
        shape = Rectangle(corner, *size, facecolor=color, linewidth=0, transform=self.figure.transFigure)
        self.figure.add_artist(shape)

    @property
    def pixels(self) -> Transform:
        """From pixels to the figure, for what is added to it without axes, which are slow to make."""
        return Affine2D().scale(1 / self.width, -1 / self.height).translate(0, 1) + self.figure.transFigure

    def line(self, ends: tuple[float, float], top: float, color: str, width: float, style: Any = "-") -> None:
        """Draw a level line between two distances from the left."""
        self.figure.add_artist(
            Line2D(ends, (top, top), color=color, linewidth=points(width), linestyle=style, transform=self.pixels)
        )

    def paste(self, left: float, top: float, width: int, height: int, rgba: NDArray[np.float32]) -> None:
        """Lay a finished picture (0 to 1, row 0 on top) over a rectangle, scaled down to fit."""
        image = Image.fromarray(as_bytes(rgba)).resize((width, height), Image.Resampling.BOX)
        self._pasted.append((image, (round(left), round(top))))

    def image(self) -> Image.Image:
        """Draw everything and return the picture."""
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Glyph .* missing")
            self.canvas.draw()  # type: ignore[no-untyped-call]
        pixels = np.asarray(self.canvas.buffer_rgba())  # type: ignore[no-untyped-call]
        picture = Image.fromarray(pixels[..., :3].copy())
        for image, corner in self._pasted:
            picture.paste(image, corner, image)
        return picture


class Backdrop(Artist):
    """A finished picture beneath all that is drawn, copied pixel by pixel.

    Args:
        left: Pixels from the left edge of the page.
        bottom: Pixels from its lower edge.
        image: RGBA.
    """

    def __init__(self, left: float, bottom: float, image: Image.Image) -> None:
        super().__init__()
        self.set_zorder(-1)
        self._corner = round(left), round(bottom)
        self._pixels = np.asarray(image)[::-1]

    def draw(self, renderer: Any) -> None:
        """Copy it onto the page."""
        context = renderer.new_gc()
        renderer.draw_image(context, *self._corner, self._pixels)
        context.restore()


def as_bytes(rgba: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return colours of 0 to 1 as bytes, which are drawn three times as fast."""
    return (np.clip(rgba, 0, 1) * 255 + 0.5).astype(np.uint8)


def points(pixels: float) -> float:
    """Return a type size in points from pixels."""
    return pixels * 72 / DPI


@cache
def _covered() -> frozenset[int]:
    font = font_manager.get_font(font_manager.findfont("DejaVu Sans"))
    return frozenset(font.get_charmap())


def printable(words: str) -> str:
    """Return the text with what the font cannot draw replaced by a question mark; file names hold anything.

    >>> printable("pre_测量.laz")
    'pre_??.laz'
    """
    known = _covered()
    return "".join(c if ord(c) in known or c == "\n" else "?" for c in words)


@cache
def _measurer() -> Any:
    return Sheet(8, 8).canvas.get_renderer()  # type: ignore[no-untyped-call]


def text_size(words: str, size: float, weight: str = "normal") -> tuple[float, float]:
    """Return width and height of one line, pixels."""
    font = FontProperties(family="DejaVu Sans", size=points(size), weight=weight)
    width, height, _ = _measurer().get_text_width_height_descent(printable(words), font, False)
    return float(width), float(height)


def wrapped(words: str, size: float, width: float, lines: int) -> list[str]:
    """Break a text into at most ``lines`` lines of ``width`` pixels; what is left out is an ellipsis."""
    found: list[str] = []
    line = ""
    for word in words.split():
        longer = f"{line} {word}".strip()
        if not line or text_size(longer, size)[0] <= width:
            line = longer
            continue
        found.append(line)
        line = word
    found.append(line)
    if len(found) <= lines:
        return found
    last = found[lines - 1]
    while last and text_size(last + " …", size)[0] > width:
        last = last.rpartition(" ")[0]
    return [*found[: lines - 1], last + " …"]


def fitted(words: str, size: float, width: float, weight: str = "normal") -> float:
    """Return the largest size up to ``size`` at which a line fits ``width`` pixels."""
    needed = text_size(words, size, weight)[0]
    return size if needed <= width else size * width / needed


def png(image: Image.Image) -> bytes:
    """Return a picture as PNG with 64 steps per colour: no eye sees it, and a bad line carries a third less."""
    buffer = io.BytesIO()
    image.point([round(round(v / 255 * 63) * 255 / 63) for v in range(256)] * 3).save(buffer, "PNG", compress_level=5)
    return buffer.getvalue()


def jpeg(image: Image.Image, width: int, quality: int = 82) -> bytes:
    """Return a picture as JPEG, scaled down to ``width`` pixels."""
    size = (width, max(1, round(image.height * width / image.width)))
    small = image.resize(size, Image.Resampling.BICUBIC) if width < image.width else image
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=quality, optimize=True, progressive=True)
    return buffer.getvalue()


def colours(change: NDArray[np.float64], limit: float) -> NDArray[np.float32]:
    """Return RGB of a height change on the scale −limit … limit, shape (..., 3); NaN becomes the centre."""
    share = np.clip(np.nan_to_num(change) / limit, -1, 1) * 0.5 + 0.5
    table = _table()
    return table[np.round(share * (len(table) - 1)).astype(np.intp)]


@cache
def _table() -> NDArray[np.float32]:
    return CHANGE(np.linspace(0, 1, 511))[:, :3].astype(np.float32)
