"""The picture maker of scripts/: text keeps its place and colour, nothing is dropped silently."""

import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "terminal_svg.py"
SVG = "{http://www.w3.org/2000/svg}"


def _draw(screen: str, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(SCRIPT), *words], input=screen, text=True,
                          capture_output=True, timeout=30, check=False)  # fmt: skip


def test_words_keep_their_column_row_and_colour() -> None:
    done = _draw("a  \x1b[38;5;196mb<c\x1b[0m\n\x1b[1;7mz\x1b[0m\n", "title & more")
    root = ET.fromstring(done.stdout)
    assert root.findtext(f"{SVG}title") == "title & more"
    texts = {text.text: text for text in root.iter(f"{SVG}text")}
    assert list(texts) == ["a", "b<c", "z"]
    assert float(texts["b<c"].get("x", "0")) - float(texts["a"].get("x", "0")) == 3 * 7.2
    assert texts["b<c"].get("fill") == "#ff0000"
    assert float(texts["z"].get("y", "0")) > float(texts["a"].get("y", "0"))
    assert texts["z"].get("font-weight") == "bold"


def test_other_control_sequences_are_an_error() -> None:
    done = _draw("a\x1b[2Jb\n", "title")
    assert done.returncode != 0
    assert "no colour" in done.stderr


def test_a_title_is_needed() -> None:
    assert _draw("a\n").returncode == 64
