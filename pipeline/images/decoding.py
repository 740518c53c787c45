"""From bytes that a stranger sent to pixels: known formats only, no bombs, nothing half; in a process of its own."""

import warnings
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from pipeline.errors import InputInvalid, InputTooLarge, PipelineError

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "TIFF")
_TAKEN = f"Send {', '.join(FORMATS[:-1])} or {FORMATS[-1]}."
_THINNER = "Send a smaller version, or raise VOLCAL_IMAGE_MAX_PIXELS."


def decode(path: Path, *, label: str, max_pixels: int) -> Image.Image:
    """Return the pixels of an image file, RGB; of several frames the first.

    Args:
        path: The file.
        label: The image's id, for the error.
        max_pixels: Most pixels that it may say it has.

    Raises:
        InputInvalid: If it is no image, of a format that is not taken, damaged or cut off.
        InputTooLarge: If it has more pixels, or needs more memory, than allowed.
    """
    Image.MAX_IMAGE_PIXELS = None  # counted below, for what a file says before anything is made of it
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of damage that Pillow can do without
        try:
            with Image.open(path, formats=FORMATS) as image:
                if image.width * image.height > max_pixels:
                    raise InputTooLarge(
                        f"It has {image.width} x {image.height} pixels, more than the {max_pixels} that are allowed.",
                        label=label,
                        remedy=_THINNER,
                    )
                image.load()  # all of it: the file may end early
                return image if image.mode == "RGB" else image.convert("RGB")
        except PipelineError:
            raise
        except UnidentifiedImageError:
            message = "It is empty." if path.stat().st_size == 0 else "It is not an image of a kind that is taken."
            raise InputInvalid(message, label=label, remedy=_TAKEN) from None
        except MemoryError:
            raise InputTooLarge("It needs more memory than an image may take.", label=label, remedy=_THINNER) from None
        except Exception as error:  # noqa: BLE001  (decoders raise whatever they like of damaged files)
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            raise InputInvalid(
                f"It is damaged or cut off ({reason}).", label=label, remedy="Export it again, and send it whole."
            ) from None
