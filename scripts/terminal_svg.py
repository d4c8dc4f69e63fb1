#!/usr/bin/env python3
"""Turn a captured terminal screen into an SVG picture; docs/images/fleet.svg was made with it.

Reads what `tmux capture-pane -e -p` prints on standard input and writes SVG to standard output:

    tmux capture-pane -e -p -t PANE | python3 scripts/terminal_svg.py TITLE > picture.svg

It knows text and SGR colours (16, 256, 24 bit, bold, reverse), which is all that command prints.
Any other control sequence is an error: a picture must not silently lack something.
"""

import re
import sys
from dataclasses import dataclass, replace
from html import escape
from typing import Final

CELL_W: Final = 7.2
CELL_H: Final = 16.0
PAD: Final = 12.0
FONT: Final = "DejaVu Sans Mono, Menlo, Consolas, monospace"
FOREGROUND: Final = "#d8dee4"
BACKGROUND: Final = "#15191e"
# The xterm palette, softened where pure colours are hard to read on a dark ground.
BASIC: Final = (
    "#2b3138", "#e06c75", "#8fc379", "#d9b25f", "#6ca8e8", "#c38de0", "#56b6c2", "#c8ced6",
    "#6b7480", "#f28b93", "#a9dc93", "#f0cf86", "#8fc0f5", "#d9adf0", "#7fd0da", "#ffffff",
)  # fmt: skip
CUBE: Final = (0, 95, 135, 175, 215, 255)
SGR: Final = re.compile(r"\x1b\[([0-9;]*)m")


@dataclass(frozen=True, slots=True, kw_only=True)
class Style:
    """How a run of characters looks; empty colours are the terminal's own."""

    fg: str = ""
    bg: str = ""
    bold: bool = False
    reverse: bool = False


def indexed(number: int) -> str:
    """The colour of one of the 256 palette entries."""
    if number < len(BASIC):
        return BASIC[number]
    if number < 232:
        cube = number - 16
        parts = (CUBE[cube // 36], CUBE[cube // 6 % 6], CUBE[cube % 6])
    else:
        parts = (8 + 10 * (number - 232),) * 3
    return "#{:02x}{:02x}{:02x}".format(*parts)


def restyle(style: Style, codes: list[int]) -> Style:
    """The style after one SGR sequence."""
    left = iter(codes or [0])
    for code in left:
        if code == 0:
            style = Style()
        elif code in {1, 22}:
            style = replace(style, bold=code == 1)
        elif code in {7, 27}:
            style = replace(style, reverse=code == 7)
        elif code in {38, 48}:
            kind = next(left)
            colour = indexed(next(left)) if kind == 5 else "#" + "".join(
                f"{next(left):02x}" for _ in range(3)
            )  # fmt: skip
            style = replace(style, fg=colour) if code == 38 else replace(style, bg=colour)
        elif 30 <= code <= 37 or 90 <= code <= 97:
            style = replace(style, fg=BASIC[code - 30 if code < 90 else code - 82])
        elif 40 <= code <= 47 or 100 <= code <= 107:
            style = replace(style, bg=BASIC[code - 40 if code < 100 else code - 92])
        elif code in {39, 49}:
            style = replace(style, fg="") if code == 39 else replace(style, bg="")
    return style


def runs(line: str, style: Style) -> tuple[list[tuple[str, Style]], Style]:
    """A line as (text, style) pieces, and the style it ends with. Raises ``ValueError``."""
    pieces: list[tuple[str, Style]] = []
    parts = SGR.split(line)
    for index, part in enumerate(parts):
        if index % 2:
            style = restyle(style, [int(code or 0) for code in part.split(";")])
        elif part:
            if not part.isprintable():
                raise ValueError(f"a control sequence that is no colour: {part!r}")
            pieces.append((part, style))
    return pieces, style


def svg(screen: str, title: str) -> str:
    """The whole screen as one SVG document. Raises ``ValueError``."""
    lines = [line.rstrip() for line in screen.rstrip("\n").split("\n")]
    style = Style()
    rows: list[list[tuple[str, Style]]] = []
    for line in lines:
        pieces, style = runs(line, style)
        rows.append(pieces)
    columns = max(sum(len(text) for text, _ in row) for row in rows)
    width, height = columns * CELL_W + 2 * PAD, len(rows) * CELL_H + 2 * PAD
    box = f'viewBox="0 0 {width:g} {height:g}" width="{width:g}" height="{height:g}"'
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {box} role="img">',
        f"<title>{escape(title)}</title>",
        f'<rect width="100%" height="100%" rx="6" fill="{BACKGROUND}"/>',
        f'<g font-family="{FONT}" font-size="12" fill="{FOREGROUND}">',
    ]
    for number, row in enumerate(rows):
        column = 0
        for text, look in row:
            out += draw(text, look, PAD + column * CELL_W, PAD + number * CELL_H)
            column += len(text)
    return "\n".join([*out, "</g>", "</svg>"]) + "\n"


def draw(text: str, style: Style, x: float, y: float) -> list[str]:
    """One run: its ground if it has one, then its words, stretched to the grid."""
    fg, bg = style.fg or FOREGROUND, style.bg
    if style.reverse:
        fg, bg = bg or BACKGROUND, fg
    width = len(text) * CELL_W
    parts = []
    if bg:
        parts.append(
            f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{CELL_H:g}" fill="{bg}"/>'
        )
    weight = ' font-weight="bold"' if style.bold else ""
    # Word by word, each at its own place and of its own width, so that no font leaves the grid.
    for word in re.finditer(r"\S+", text):
        shown = word.group()
        parts.append(
            f'<text x="{x + word.start() * CELL_W:g}" y="{y + CELL_H * 0.76:g}"'
            f' textLength="{len(shown) * CELL_W:g}" lengthAdjust="spacingAndGlyphs"'
            f' fill="{fg}"{weight}>{escape(shown)}</text>'
        )
    return parts


def main() -> int:
    """Convert standard input; 64 without a title."""
    if len(sys.argv) != 2:
        sys.stderr.write(f"usage: {sys.argv[0]} TITLE < screen > picture.svg\n")
        return 64
    sys.stdout.write(svg(sys.stdin.read(), sys.argv[1]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
