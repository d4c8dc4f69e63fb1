"""README.md and docs/ are true where a program can tell: links, files, settings, tables, layers."""

import re
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from fleet.bots.known import KNOWN
from fleet.cli.docs import made
from fleet.config import PLACES, settings_of
from fleet.domain.commands import RefusalCode

ROOT = Path(__file__).resolve().parents[2]
PAGES = [
    ROOT / "README.md",
    ROOT / "CHANGELOG.md",
    ROOT / "bench" / "README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"\]\(([^)\s]+)\)")
KEY = re.compile(r"\b(?:FLEET|ARB|PAPER|SANDBOX|POLYMARKET|BACKUP|LIVE)_[A-Z][A-Z0-9_]*\b")
PLACE = re.compile(r"^(?:src|tests|docs|scripts|bench|requirements)/[\w./-]+$")
# What a measurement or a set-up leaves; a fresh checkout has none of it.
MADE = ("bench/.peers", "bench/results.json")


def _prose(page: Path) -> str:
    return FENCE.sub("", page.read_text())


def _inline() -> list[tuple[str, str]]:
    return [(page.name, code) for page in PAGES for code in INLINE.findall(_prose(page))]


def _anchor(heading: str) -> str:
    kept = re.sub(r"[^\w\- ]", "", heading.strip().lower())
    return kept.replace(" ", "-")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_relative_links_lead_somewhere(page: Path) -> None:
    for link in LINK.findall(_prose(page)):
        if link.startswith(("https://", "http://")):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), f"{link} leads nowhere"
        if anchor:
            headings = re.findall(r"^#+ (.+)$", target.read_text(), re.MULTILINE)
            assert anchor in {_anchor(heading) for heading in headings}, f"no heading for {link}"


def test_every_page_is_reached_from_the_readme() -> None:
    linked = {
        (page.parent / link.partition("#")[0]).resolve()
        for page in (ROOT / "README.md", ROOT / "docs" / "decisions" / "README.md")
        for link in LINK.findall(page.read_text())
    }
    linked |= {path / "README.md" for path in linked if path.is_dir()}
    assert [page for page in PAGES if page not in linked and page.name != "README.md"] == []


def test_files_named_in_passing_exist() -> None:
    for page, code in _inline():
        if PLACE.match(code) and not code.startswith(MADE):
            assert (ROOT / code).exists(), f"{page} names {code}"


def test_settings_named_are_settings() -> None:
    known = {spec.key for kind in KNOWN for _, spec in settings_of(kind)} | PLACES
    codes = {code.value for code in RefusalCode}
    for page in PAGES:
        named = set(KEY.findall(page.read_text())) - codes
        assert named <= known, f"{page.name} names {named - known}"


def test_no_page_names_a_directory_of_one_machine() -> None:
    for page in PAGES:
        assert not re.search(r"(?<![\w.])/(?:work|root|tmp/(?!back))\b", page.read_text()), (
            page.name
        )


def test_generated_tables_are_up_to_date() -> None:
    assert [path.name for path, text in made(ROOT).items() if path.read_text() != text] == []


def test_decisions_are_numbered_and_listed() -> None:
    folder = ROOT / "docs" / "decisions"
    files = sorted(path.name for path in folder.glob("[0-9]*.md"))
    assert [int(name[:4]) for name in files] == list(range(1, len(files) + 1))
    listed = (folder / "README.md").read_text()
    for name in files:
        text = (folder / name).read_text()
        title = text.splitlines()[0].removeprefix(f"# {name[:4]}: ")
        assert f"| [{name[:4]}]({name}) | {title} |" in listed
        for part in ("**Context.**", "**Decision.**", "**Consequence.**"):
            assert part in text, f"{name} has no {part}"


def test_the_picture_is_a_small_readable_svg() -> None:
    path = ROOT / "docs" / "images" / "fleet.svg"
    assert path.stat().st_size < 300_000
    words = " ".join(ET.parse(path).getroot().itertext())
    for word in ("Custom", "ARB", "EXECUTED", "paper/sandbox", "healthy"):
        assert word in words


def test_the_lines_shown_say_paper_and_sandbox() -> None:
    blocks = [body for language, body in FENCE.findall((ROOT / "README.md").read_text())
              if language == "text"]  # fmt: skip
    lines = [line for body in blocks for line in body.splitlines()]
    assert any("ARB OPPORTUNITY" in line for line in lines)
    assert any("EXECUTED" in line for line in lines)
    for line in lines:
        assert re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d \w+ \[ArbHunter paper sandbox\] ", line), (
            line
        )


# --- the layering table --------------------------------------------------------------------------


def _layering() -> dict[str, str]:
    text = (ROOT / "docs" / "architecture.md").read_text()
    table = text.partition("| layer |")[2].partition("\n\n")[0]
    rows: dict[str, str] = {}
    for line in table.splitlines()[2:]:
        names, _, allowed = (cell.strip() for cell in line.strip("|").split("|"))
        rows |= dict.fromkeys(re.findall(r"`(\w+)`", names), allowed)
    return rows


def test_the_layering_table_is_what_the_code_does() -> None:
    rows = _layering()
    order = list(rows)
    source = ROOT / "src" / "fleet"
    layers = {
        path.name.removesuffix(".py") for path in source.iterdir() if path.name[0] not in "_."
    }
    assert layers == set(rows)
    for path in source.rglob("*.py"):
        layer = path.relative_to(source).parts[0].removesuffix(".py")
        if layer.startswith("_") or rows[layer].startswith("everything"):
            continue
        allowed = set(re.findall(r"`([\w.]+)`", rows[layer].partition("but")[0])) | {layer}
        if rows[layer].startswith("all of the above"):
            excepted = set(re.findall(r"`(\w+)`", rows[layer].partition(" but ")[2]))
            allowed |= set(order[: order.index(layer)]) - excepted
        for module, name in re.findall(
            r"^\s*from fleet\.([\w.]+) import (\w*)", path.read_text(), re.MULTILINE
        ):
            parts = [*module.split("."), name]
            prefixes = {".".join(parts[:length]) for length in range(1, len(parts) + 1)}
            assert prefixes & allowed, f"{path.relative_to(ROOT)} imports fleet.{module}"
