import argparse
from pathlib import Path

import pytest

from fleet.bots.known import KNOWN
from fleet.cli import docs
from fleet.config import load_all, settings_of
from fleet.domain.commands import RefusalCode

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of what the command reads and writes."""
    (tmp_path / "docs").mkdir()
    for name in (".env.example", "docs/configuration.md", "docs/runbook.md"):
        (tmp_path / name).write_text((ROOT / name).read_text())
    monkeypatch.setenv("FLEET_HOME", str(tmp_path))
    return tmp_path


def run(*, check: bool) -> int:
    return docs.run(argparse.Namespace(check=check))


def test_the_tables_of_this_checkout_are_in_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLEET_HOME", str(ROOT))
    assert run(check=True) == 0


def test_no_settings_type_is_left_out() -> None:
    assert docs.undocumented() == []


def test_every_setting_and_every_refusal_code_is_shown() -> None:
    keys = [spec.key for kind in KNOWN for _, spec in settings_of(kind)]
    assert all(f"| `{key}` |" in docs.settings_table() for key in keys)
    assert all(f"#{key}=" in docs.env_example() for key in keys)
    assert docs.refusal_table().count("\n") == len(RefusalCode) + 2


def test_the_example_as_it_stands_and_uncommented_are_sound_settings() -> None:
    lines = docs.env_example().splitlines()
    assert [line for line in lines if line and not line.startswith("#")] == []
    said = dict(line[1:].split("=", 1) for line in lines if line.startswith("#") and line[1] != " ")
    assert len(said) > 30
    assert load_all(KNOWN, said, KNOWN) == load_all(KNOWN, {}, KNOWN) or _alike(said)


def _alike(said: dict[str, str]) -> bool:
    """Equal but for secrets, which are equal to nothing."""
    written, plain = load_all(KNOWN, said, KNOWN), load_all(KNOWN, {}, KNOWN)
    return [repr(kind) for kind in written] == [repr(kind) for kind in plain]


@pytest.mark.parametrize("name", [".env.example", "docs/configuration.md", "docs/runbook.md"])
def test_what_is_out_of_date_is_told_and_repaired(
    root: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    good = (root / name).read_text()
    line = next(s for s in good.splitlines() if "ARB_SETS" in s or s.startswith("| `BOOK_STALE`"))
    (root / name).write_text(good.replace(line + "\n", ""))
    assert run(check=True) == 1
    assert f"{name} is out of date: run `fleet docs`" in capsys.readouterr().err
    assert run(check=False) == 0
    assert f"wrote {name}" in capsys.readouterr().out
    assert (root / name).read_text() == good
    assert run(check=True) == 0


def test_text_around_the_tables_stays_a_persons(root: Path) -> None:
    file = root / "docs" / "configuration.md"
    file.write_text("Mine above.\n" + file.read_text() + "Mine below.\n")
    assert run(check=True) == 0


def test_lost_markers_are_an_error(root: Path) -> None:
    (root / "docs" / "runbook.md").write_text("# Runbook\n")
    with pytest.raises(ValueError, match="markers of 'refusal codes' are missing"):
        run(check=True)
