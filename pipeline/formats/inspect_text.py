"""Is this PLY file, or this text of coordinates, what it seems to be?

The grammar of PLY follows Turk (1994), that of text what survey programs export: one point a line, three or
more columns, separated by blanks, tabs, commas or semicolons, with or without a line of names above.
"""

import re
from dataclasses import dataclass

from pipeline.formats.source import CLOUD_REMEDY, Source, size_text

MAX_HEADER = 65_536
MAX_POINTS = 1_000_000_000
MAX_LINE = 4_096
PLY_TYPES = {
    "char": "i1", "int8": "i1", "uchar": "u1", "uint8": "u1", "short": "i2", "int16": "i2", "ushort": "u2",
    "uint16": "u2", "int": "i4", "int32": "i4", "uint": "u4", "uint32": "u4", "float": "f4", "float32": "f4",
    "double": "f8", "float64": "f8",
}  # fmt: skip
_COLUMN_NAMES = {
    "x": 0, "easting": 0, "east": 0, "e": 0, "xcoord": 0, "coordx": 0, "y": 1, "northing": 1, "north": 1, "n": 1,
    "ycoord": 1, "coordy": 1, "z": 2, "elevation": 2, "elev": 2, "height": 2, "h": 2, "zcoord": 2, "coordz": 2,
}  # fmt: skip
_CLASS_NAMES = ("classification", "class", "scalarclassification", "scalarclass")


@dataclass(frozen=True, slots=True)
class PlyHeader:
    """What the head of a PLY file says.

    Args:
        order: ``a`` for text, ``<`` or ``>`` for the byte order.
        count: Points.
        columns: Name and numpy type code of each number of a vertex, in order.
        body_at: Byte at which the first vertex begins.
    """

    order: str
    count: int
    columns: tuple[tuple[str, str], ...]
    body_at: int

    @property
    def vertex_bytes(self) -> int:
        """Bytes of one binary vertex."""
        return sum(int(code[1]) for _, code in self.columns)

    @property
    def class_column(self) -> str | None:
        """Name of the column that holds ASPRS classes, if there is one."""
        return next((name for name, _ in self.columns if _plain(name) in _CLASS_NAMES), None)


def ply_header(source: Source) -> PlyHeader:
    """Read the head of a PLY file and hold it against the file's size.

    Raises:
        InputInvalid: If the head is not PLY, has no x, y, z, or claims more than the file has.
        InputTooLarge: If it claims more than :data:`MAX_POINTS` points.
    """
    head = source.read(0, MAX_HEADER)
    end = re.search(rb"\nend_header[ \t]*\r?\n", head)
    if end is None:
        raise (
            source.truncated("its PLY header does not end")
            if len(head) < MAX_HEADER
            else source.invalid("has a damaged PLY header: it does not end", CLOUD_REMEDY)
        )
    order, skip, count, columns = _ply_grammar(source, head[: end.start()].decode("latin-1").splitlines())
    header = PlyHeader(order, count, columns, end.end() + skip)
    names = [name for name, _ in columns]
    if not {"x", "y", "z"} <= set(names) or len(set(names)) != len(names):
        raise source.invalid("is a PLY file whose vertices have no x, y and z", "Export it with coordinates.")
    if count == 0:
        raise source.invalid("is a PLY file without any points", "Check the export: the survey is empty.")
    if count > MAX_POINTS:
        raise source.too_large(
            f"claims {count:,} points in {size_text(source.size)}; at most {MAX_POINTS:,} are accepted",
            "Cut the survey to the area of interest or thin it out. If it is not that large, the file is damaged.",
            points=count,
        )
    least = 2 * len(columns) * count - 1 if order == "a" else header.vertex_bytes * count
    if header.body_at + least > source.size:
        raise source.truncated(f"{count:,} points need at least {size_text(least)}, it has {size_text(source.size)}")
    return header


def _ply_grammar(source: Source, lines: list[str]) -> tuple[str, int, int, tuple[tuple[str, str], ...]]:
    """Return byte order, bytes before the vertices, number of vertices and their columns."""
    orders = {"ascii": "a", "binary_little_endian": "<", "binary_big_endian": ">"}
    order, skip, count, current = "", 0, -1, ""
    before, columns = 0, []
    for line in lines[1:]:
        words = line.split()
        match words:
            case ["format", encoding, *_] if encoding in orders:
                order = orders[encoding]
            case ["element", name, number] if number.isdecimal() and len(number) < 19:
                current, before = name, int(number)
                count = before if name == "vertex" else count
            case ["property", "list", *_] if current != "vertex" and count >= 0:
                pass  # faces after the points do not matter
            case ["property", kind, name] if kind in PLY_TYPES and current:
                if current == "vertex":
                    columns.append((name, PLY_TYPES[kind]))
                elif count < 0:
                    skip += before * int(PLY_TYPES[kind][1])
            case [] | ["comment" | "obj_info", *_]:
                pass
            case _:
                raise source.invalid(f"has a PLY header with a line that cannot be used: {line[:60]!r}", CLOUD_REMEDY)
    if not order or count < 0:
        raise source.invalid("is a PLY file without a format or without vertices", CLOUD_REMEDY)
    if skip and order == "a":
        raise source.invalid("is a text PLY file whose points do not come first", CLOUD_REMEDY)
    return order, skip, count, tuple(columns)


@dataclass(frozen=True, slots=True)
class TextLayout:
    """How the lines of a text of coordinates are to be read.

    Args:
        separator: ``,`` or ``;``, or empty for blanks and tabs.
        decimal: ``.`` or ``,``.
        skip: Lines before the first point.
        columns: Positions of x, y, z.
        class_column: Position of the ASPRS class, or None.
    """

    separator: str
    decimal: str
    skip: int
    columns: tuple[int, int, int]
    class_column: int | None


def text_layout(source: Source) -> TextLayout:
    """Find out how the lines are written, from the first of them.

    Raises:
        InputInvalid: If they are not lines of at least three numbers.
    """
    head = source.read(0, MAX_HEADER)
    if b"\0" in head or sum(byte < 9 or 13 < byte < 32 for byte in head) > 0:
        raise source.invalid("is a binary file of a kind that is not known", CLOUD_REMEDY)
    lines = head.decode("utf-8-sig", errors="replace").splitlines()
    if source.size > len(head) and len(lines) > 1:
        lines = lines[:-1]  # the last one is cut
    if any(len(line) > MAX_LINE for line in lines):
        raise source.invalid("is text, but not lines of coordinates", CLOUD_REMEDY)
    found = [(i, line) for i, line in enumerate(lines) if line.strip() and not line.lstrip().startswith(("#", "//"))]
    names = _named_columns(lines[: found[0][0] + 1] if found else lines)
    for tried, (skip, line) in enumerate(found[:3]):
        separator, decimal = _separators(line)
        columns, class_column = names.get(separator) or ((0, 1, 2), None)
        point = _point(line, separator, decimal, columns)
        if point is not None and _most_parse(found[tried:], separator, decimal, columns):
            return TextLayout(separator, decimal, skip, columns, class_column)
    raise source.invalid("is text, but not lines of at least three numbers", CLOUD_REMEDY)


def expected_lines(source: Source) -> int:
    """Return about how many lines a text has: as many as it would if all were as long as the first."""
    head = source.read(0, MAX_HEADER)
    lines = max(1, head.count(b"\n"))
    return lines if len(head) >= source.size else lines * source.size // (head.rfind(b"\n") + 1 or len(head))


def _plain(name: str) -> str:
    return re.sub(r"[^a-z]", "", name.lower())


def _named_columns(lines: list[str]) -> dict[str, tuple[tuple[int, int, int], int | None]]:
    """Return where x, y, z and the class are, by separator, if a line of names above the points says so."""
    found: dict[str, tuple[tuple[int, int, int], int | None]] = {}
    for line in lines:
        for separator in ("", ",", ";"):
            words = [re.sub(r"\[.*?\]|\(.*?\)", "", word) for word in _split(line.lstrip("#/ \t"), separator)]
            places: dict[int, int] = {}
            for i, word in enumerate(words):
                axis = _COLUMN_NAMES.get(_plain(word))
                if axis is not None:
                    places.setdefault(axis, i)
            if len(places) == 3:
                classes = next((i for i, word in enumerate(words) if _plain(word) in _CLASS_NAMES), None)
                found[separator] = ((places[0], places[1], places[2]), classes)
    return found


def _split(line: str, separator: str) -> list[str]:
    return line.split(separator) if separator else line.split()


def _separators(line: str) -> tuple[str, str]:
    if ";" in line:
        return ";", "," if re.search(r"\d,\d", line) else "."
    if "," in line:
        words = line.split()
        commas_are_decimal = (
            len(words) >= 3
            and all(word.count(",") <= 1 for word in words[:3])
            and ("." not in line and not any(word.endswith(",") for word in words))
        )
        return ("", ",") if commas_are_decimal else (",", ".")
    return "", "."


def _point(line: str, separator: str, decimal: str, columns: tuple[int, ...]) -> tuple[float, float, float] | None:
    words = _split(line, separator)
    try:
        x, y, z = (float(words[i].replace(decimal, ".")) for i in columns)
    except (ValueError, IndexError):
        return None
    return x, y, z


def _most_parse(found: list[tuple[int, str]], separator: str, decimal: str, columns: tuple[int, ...]) -> bool:
    good = sum(_point(line, separator, decimal, columns) is not None for _, line in found)
    return good >= 0.9 * len(found)
