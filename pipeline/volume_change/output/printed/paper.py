"""Sheets of A4 with one type and one palette: headings, tables, boxes, pictures."""

import io
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

import matplotlib as mpl
from fpdf import FPDF
from fpdf.enums import MethodReturnValue, TableBordersLayout, VAlign, XPos, YPos
from fpdf.fonts import FontFace
from fpdf.output import OutputProducer, PDFInfo
from PIL import Image

from pipeline.volume_change.output.pictures.canvas import printable

INK, MUTED, LINE, PALE = "#1d232b", "#56616c", "#c3cbd3", "#f2f5f7"
CUT, FILL, WARN, WARN_LINE = "#b34a00", "#1a5597", "#fff4d6", "#e0b84c"
_FONT = "DejaVu"
_SIDE, _TOP, _BOTTOM = 16.0, 20.0, 18.0  # margins, mm
_LINE = 1.45  # height of a line, as a multiple of its type


class _Undated(OutputProducer):
    """Writes no time of making: the same input gives the same bytes."""

    def _add_info(self) -> PDFInfo:
        info = super()._add_info()
        info.creation_date = None  # type: ignore[assignment]  # what is None is left out
        return info


class Paper(FPDF):
    """A document under construction; lengths in mm, type in points.

    Args:
        title: Stands on top of every page but the first, and in the file's properties.
        maker: The program and its version, at the foot of every page.
    """

    def __init__(self, title: str, maker: str) -> None:
        super().__init__("portrait", "mm", "A4")
        fonts = Path(mpl.get_data_path()) / "fonts" / "ttf"
        self.add_font(_FONT, "", fonts / "DejaVuSans.ttf")
        self.add_font(_FONT, "B", fonts / "DejaVuSans-Bold.ttf")
        self.set_margins(_SIDE, _TOP, _SIDE)
        self.set_auto_page_break(True, _BOTTOM)
        self.set_title(printable(title))
        self.set_creator(maker)
        self.set_lang("en")
        self.set_creation_date(datetime(2000, 1, 1, tzinfo=UTC))  # not written, but the file's id is made of it as well
        self._running, self._maker = printable(title), maker
        self.add_page()

    def header(self) -> None:
        """Name the report on every page but the first."""
        if self.page_no() == 1:
            return
        self.set_y(9)
        self.type(7.5, MUTED)
        self.cell(self.epw, 5, self._running, new_x=XPos.LMARGIN, new_y=YPos.NEXT)
        self.set_draw_color(LINE)
        self.line(_SIDE, 14.5, self.w - _SIDE, 14.5)
        self.set_y(_TOP)

    def footer(self) -> None:
        """Number the page."""
        self.set_y(-12)
        self.type(7.5, MUTED)
        self.cell(self.epw / 2, 5, f"Page {self.page_no()} of {{nb}}")
        self.cell(self.epw / 2, 5, self._maker, align="R")

    def type(self, size: float, color: str = INK, *, bold: bool = False) -> None:
        """Choose the type of what follows."""
        self.set_font(_FONT, "B" if bold else "", size)
        self.set_text_color(color)

    def write_text(self, words: str, size: float = 9, color: str = INK, *, bold: bool = False, gap: float = 2) -> None:
        """Write a paragraph over the page's width, with a gap below it."""
        self.type(size, color, bold=bold)
        self.multi_cell(self.epw, _mm(size), printable(words), align="L", new_x=XPos.LMARGIN, new_y=YPos.NEXT)
        self.ln(gap)

    def heading(self, words: str, room: float = 30) -> None:
        """Begin a part; on the next page if there is less room than it needs to begin, mm."""
        if self.will_page_break(room):
            self.add_page()
        elif self.get_y() > _TOP + 1:
            self.ln(3)
        self.start_section(printable(words))  # an entry in the reader's table of contents
        self.write_text(words, 13, bold=True, gap=0.8)
        self.set_draw_color(LINE)
        self.line(_SIDE, self.get_y(), self.w - _SIDE, self.get_y())
        self.ln(2.2)

    def cards(self, cards: Sequence[tuple[str, str, str, str]]) -> None:
        """Write figures side by side: label, figure, what is said below it, and a colour each."""
        gap, top = 3.0, self.get_y()
        width = (self.epw - gap * (len(cards) - 1)) / len(cards)
        for number, (label, figure, below, color) in enumerate(cards):
            left = _SIDE + number * (width + gap)
            self._block(left, top, width, 20, PALE)
            self._block(left, top, 1.3, 20, color)
            self.set_xy(left + 3, top + 2)
            self.type(7.5, MUTED)
            self.cell(width - 4, 4, label)
            self.set_xy(left + 3, top + 7)
            self.type(self._fitting(figure, 11.5, width - 5), color if color != LINE else INK, bold=True)
            self.cell(width - 4, 6, figure)
            self.set_xy(left + 3, top + 14)
            self.type(self._fitting(below, 7, width - 5), MUTED)
            self.cell(width - 4, 4, below)
        self.set_xy(_SIDE, top + 24)

    def pairs(self, rows: Sequence[tuple[str, str]], *, share: float = 0.32, size: float = 8.5) -> None:
        """Write a table of names and what is said of each; the names take that share of the width."""
        self._begin_table(size)
        with self.table(
            col_widths=(share, 1 - share), first_row_as_headings=False, line_height=_mm(size), padding=(0.9, 1.5),
            borders_layout=TableBordersLayout.HORIZONTAL_LINES, text_align="LEFT", v_align=VAlign.T,
        ) as table:  # fmt: skip
            for name, said in rows:
                row = table.row()
                row.cell(printable(name), style=FontFace(color=MUTED))
                row.cell(printable(said))
        self.ln(2)

    def columns(
        self, heads: Sequence[str], rows: Sequence[Sequence[str]], widths: Sequence[float], left: int, total: bool
    ) -> None:
        """Write a table of figures; its head stands on every page.

        Args:
            heads: Name and unit of each column.
            rows: The cells.
            widths: Of the columns, in any unit.
            left: How many columns hold words and begin at the left; figures end at the right.
            total: Whether the last row is a sum.
        """
        self._begin_table(7.5)
        align = ["LEFT"] * left + ["RIGHT"] * (len(heads) - left)
        with self.table(
            col_widths=tuple(widths), line_height=_mm(7.5), padding=(0.9, 1.2), text_align=align, v_align=VAlign.T,
            borders_layout=TableBordersLayout.HORIZONTAL_LINES, headings_style=FontFace("", "", 7, MUTED, PALE),
        ) as table:  # fmt: skip
            table.row(heads)
            for number, cells in enumerate(rows, 1):
                last = total and number == len(rows)
                table.row([printable(cell) for cell in cells], style=FontFace(emphasis="B") if last else None)
        self.ln(2)

    def box(self, title: str, lines: Sequence[str]) -> None:
        """Write what nobody may overlook; on the next page if it does not fit here."""
        self.type(8.5)
        wide = self.epw - 8
        heights = [self._height(f"• {line}", 8.5, wide) for line in lines]
        if self.will_page_break(whole := sum(heights) + 11) and whole < self.eph:
            self.add_page()
        top, sheet = self.get_y(), self.page
        if whole < self.eph:
            self._block(_SIDE, top, self.epw, whole, WARN)
            self._block(_SIDE, top, 1.3, whole, WARN_LINE)
        self.set_xy(_SIDE + 4, top + 2.5)
        self.type(8.5, bold=True)
        self.cell(wide, _mm(8.5), title, new_x=XPos.LMARGIN, new_y=YPos.NEXT)
        self.type(8.5)
        for line in lines:
            self.set_x(_SIDE + 4)
            self.multi_cell(wide, _mm(8.5), printable(f"• {line}"), align="L", new_x=XPos.LMARGIN, new_y=YPos.NEXT)
        self.set_y(top + whole + 3 if self.page == sheet else self.get_y() + 3)

    def picture(self, content: bytes, left: float, top: float, width: float, height: float, alt: str) -> None:
        """Show a picture within a rectangle, as large as fits, in the middle."""
        with Image.open(io.BytesIO(content)) as image:
            ratio = image.width / image.height
        wide = min(width, height * ratio)
        self.image(io.BytesIO(content), left + (width - wide) / 2, top, wide, wide / ratio, alt_text=printable(alt))

    def blanks(self, names: Sequence[str]) -> None:
        """Leave room for what people fill in by hand, at the foot of the page."""
        if self.will_page_break(24):
            self.add_page()
        gap = 6.0
        width = (self.epw - gap * (len(names) - 1)) / len(names)
        y = self.h - _BOTTOM - 6
        self.set_draw_color(MUTED)
        for number, name in enumerate(names):
            left = _SIDE + number * (width + gap)
            self.line(left, y, left + width, y)
            self.set_xy(left, y + 0.5)
            self.type(7, MUTED)
            self.cell(width, 4, name)
        self.set_xy(_SIDE, y)

    def content(self) -> bytes:
        """Return the file."""
        return bytes(self.output(output_producer_class=_Undated))

    def _begin_table(self, size: float) -> None:
        self.type(size)
        self.set_draw_color(LINE)
        self.set_fill_color("#ffffff")  # else cells have the colour of what was filled last

    def _block(self, left: float, top: float, width: float, height: float, color: str) -> None:
        self.set_fill_color(color)
        self.rect(left, top, width, height, style="F")

    def _fitting(self, words: str, size: float, width: float) -> float:
        """Return the largest type up to a size in which a line fits."""
        self.type(size, bold=size > 9)
        needed = self.get_string_width(words)
        return size if needed <= width else size * width / needed

    def _height(self, words: str, size: float, width: float) -> float:
        found = self.multi_cell(
            width, _mm(size), printable(words), align="L", dry_run=True, output=MethodReturnValue.HEIGHT
        )
        assert isinstance(found, float)  # noqa: S101  (narrowing: it returns what it is asked for)
        return found


@cache
def _mm(size: float) -> float:
    """Return the height of a line, mm."""
    return size * _LINE * 25.4 / 72
