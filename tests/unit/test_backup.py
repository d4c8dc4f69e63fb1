"""The backup, with the real gpg: proven before it has a name, and told when it is not right."""

import os
import shutil
import sqlite3
import subprocess
import tarfile
from pathlib import Path

import pytest

from fleet.cli.backup import describe, fold_events
from fleet.domain.units import parse_cash
from fleet.journal import locks
from fleet.journal.database import JournalDamaged
from fleet.journal.fleet import FleetState
from fleet.journal.store import JournalReader, JournalStore
from fleet.ops import archive, backup
from fleet.ops.archive import ArchiveDamaged
from fleet.ops.backup import BackupError, create, restore, settings_from, verify
from fleet.ops.backup_settings import BackupSettings
from tests.unit.test_trades import STORY, fill

NOW = 1_795_000_000_123_000_000
NAME = "fleet-20261118T110640.123Z.tar.gpg"
PASSPHRASE = "correct horse battery staple"
DAY_S = 86_400


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A small fleet: two journals, a snapshot, the fleet state, a tape, logs, .env."""
    root = tmp_path / "fleet"
    (root / "logs").mkdir(parents=True)
    passphrase = root / "passphrase"
    passphrase.write_text(PASSPHRASE + "\nnot used\n")
    passphrase.chmod(0o600)
    (root / ".env").write_text("BACKUP_PASSPHRASE_FILE=passphrase\nSECRET_KEY=hunter2\n")
    (root / ".env").chmod(0o600)
    for name, age_days in (("arbhunter.log", 0), ("arbhunter__old.log", 6), ("ancient.log", 8)):
        log = root / "logs" / name
        log.write_bytes(os.urandom(5000))
        os.utime(log, ns=(NOW - age_days * DAY_S * 10**9,) * 2)
    for bot, events in (("arbhunter", STORY), ("polyai", [fill("x", "c9")])):
        path = root / "var" / "journal" / f"{bot}-paper.db"
        with JournalStore(path, bot=bot, mode="paper", run_id="r") as store:
            store.write(events)
    with FleetState(root / "var" / "fleet.db") as state:
        state.halt("drill", "test", 1)
    (root / "var" / "tape").mkdir()
    (root / "var" / "tape" / "frames.zst").write_bytes(b"not in the backup")
    (root / "var" / "journal" / "arbhunter-paper.snapshot").write_bytes(b"nor this: no proof")
    return root


def settings(root: Path, **change: object) -> BackupSettings:
    env = {"BACKUP_PASSPHRASE_FILE": "passphrase", **{k: str(v) for k, v in change.items()}}
    return settings_from(root, env)


def make(root: Path, now_ns: int = NOW, **change: object) -> Path:
    return create(root, settings(root, **change), fold_events, now_ns=now_ns).path


def fails(code: int, root: Path, now_ns: int = NOW, **change: object) -> str:
    """Make a backup that must fail with ``code``; nothing half done may stay."""
    before = sorted((root / "backups").glob("*"))
    with pytest.raises(BackupError) as told:
        make(root, now_ns, **change)
    assert told.value.exit_code == code, told.value
    assert sorted((root / "backups").glob("*")) == before
    assert not list((root / "var").glob(".fleet-backup-stage-*"))
    assert PASSPHRASE not in str(told.value)
    return str(told.value)


def rewrite_sums(tree: Path) -> None:
    lines = [
        f"{archive._sha256(path)}  {path.relative_to(tree)}\n"
        for path in archive._files(tree)
        if path.name != archive.SUMS
    ]
    (tree / archive.SUMS).write_text("".join(lines))


def test_a_backup_comes_back_byte_for_byte(root: Path, tmp_path: Path) -> None:
    made = create(root, settings(root), fold_events, now_ns=NOW)
    assert made.path == root / "backups" / NAME
    assert made.path.stat().st_mode & 0o777 == 0o600
    assert (made.proof.databases, made.proof.fills, len(made.proof.journals)) == (3, 4, 2)
    back = tmp_path / "deep" / "back"
    proof = restore(root, made.path, back, root / "passphrase", fold_events)
    assert proof == made.proof
    found = {str(p.relative_to(back)): p for p in back.rglob("*") if p.is_file()}
    assert sorted(found) == [
        ".env",
        "SHA256SUMS",
        "logs/arbhunter.log",
        "logs/arbhunter__old.log",
        "trades.csv",
        "var/fleet.db",
        "var/journal/arbhunter-paper.db",
        "var/journal/polyai-paper.db",
    ]
    for name, path in found.items():
        assert path.stat().st_mode & 0o777 == 0o600, name
        if name.startswith(("logs/", ".env")):
            assert path.read_bytes() == (root / name).read_bytes(), name
    for name in ("arbhunter-paper.db", "polyai-paper.db"):
        with (
            JournalReader(root / "var/journal" / name) as ours,
            JournalReader(back / "var/journal" / name) as theirs,
        ):
            assert list(ours.read()) == list(theirs.read())
    with FleetState(back / "var" / "fleet.db") as state:
        latch = state.latched()
        assert latch is not None
        assert latch.reason == "drill"


def test_the_documented_line_opens_it_without_our_code(root: Path, tmp_path: Path) -> None:
    sealed = make(root)
    restore(root, sealed, tmp_path / "ours", root / "passphrase", fold_events)
    home, plain = tmp_path / "home", tmp_path / "plain"
    home.mkdir(mode=0o700)
    plain.mkdir()
    packets = subprocess.run(
        f"gpg --batch --pinentry-mode loopback --passphrase-file {root}/passphrase --decrypt"
        f" {sealed} | tar -x -C {plain} && cd {plain} && sha256sum --quiet -c SHA256SUMS"
        f" && gpg --batch --pinentry-mode loopback --passphrase-file {root}/passphrase"
        f" --list-packets {sealed}; gpgconf --kill all",
        shell=True,
        capture_output=True,
        text=True,
        env={**os.environ, "GNUPGHOME": str(home), "LC_ALL": "C"},
        check=True,
    ).stdout
    assert "cipher 9" in packets
    assert "mdc_method: 2" in packets
    assert subprocess.run(["diff", "-r", str(tmp_path / "ours"), str(plain)]).returncode == 0


def test_nothing_of_ours_stays_behind(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "t"
    place.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(place))
    stale = place / f"{backup._gpg_prefix(root)}killed"
    stale.mkdir()
    (root / "var" / ".fleet-backup-stage-killed").mkdir()
    (root / "backups").mkdir()
    (root / "backups" / f"{NAME}.partial").write_bytes(b"half")
    (root / "backups" / "somebody-elses.partial").write_bytes(b"keep")
    make(root)
    assert list(place.iterdir()) == []
    assert sorted(p.name for p in (root / "backups").iterdir()) == [NAME, "somebody-elses.partial"]
    assert sorted(p.name for p in (root / "var").iterdir() if p.is_dir()) == [
        "journal", "locks", "tape",
    ]  # fmt: skip


@pytest.mark.parametrize("where", [0.0, 0.1, 0.5, 0.9, 1.0])
def test_a_damaged_byte_is_told_and_nothing_comes_back(
    root: Path, tmp_path: Path, where: float
) -> None:
    sealed = make(root)
    content = bytearray(sealed.read_bytes())
    content[int(where * (len(content) - 1))] ^= 0x40
    sealed.write_bytes(content)
    with pytest.raises(BackupError) as told:
        restore(root, sealed, tmp_path / "back", root / "passphrase", fold_events)
    assert told.value.exit_code == backup.EX_DATAERR
    assert not (tmp_path / "back").exists()
    assert not list(tmp_path.glob(".fleet-backup-stage-*"))
    with pytest.raises(BackupError):
        verify(root, sealed, root / "passphrase", fold_events)


@pytest.mark.parametrize("end", [0, 1, 100, -6000, -1])
def test_a_truncated_backup_is_told(root: Path, tmp_path: Path, end: int) -> None:
    sealed = make(root)
    content = sealed.read_bytes()
    sealed.write_bytes(content[:end])
    with pytest.raises(BackupError, match="damaged or truncated") as told:
        restore(root, sealed, tmp_path / "back", root / "passphrase", fold_events)
    assert told.value.exit_code == backup.EX_DATAERR
    assert not (tmp_path / "back").exists()


def test_a_wrong_passphrase_is_told(root: Path, tmp_path: Path) -> None:
    sealed = make(root)
    wrong = tmp_path / "wrong"
    wrong.write_text("not it\n")
    wrong.chmod(0o600)
    with pytest.raises(BackupError, match="passphrase") as told:
        restore(root, sealed, tmp_path / "back", wrong, fold_events)
    assert told.value.exit_code == backup.EX_DATAERR
    assert not (tmp_path / "back").exists()


@pytest.mark.parametrize(
    ("mode", "content", "said"),
    [
        (0o644, "secret\n", "chmod 600"),
        (0o640, "secret\n", "chmod 600"),
        (0o600, "", "first line"),
        (0o600, "\nsecret\n", "first line"),
        (None, "", "umask 077"),
    ],
)
def test_a_passphrase_file_that_is_not_right(
    root: Path, mode: int | None, content: str, said: str
) -> None:
    file = root / "passphrase"
    file.unlink()
    if mode is not None:
        file.write_text(content)
        file.chmod(mode)
    assert said in fails(backup.EX_CONFIG, root)


def test_all_wrong_settings_at_once(root: Path) -> None:
    with pytest.raises(BackupError) as told:
        settings_from(root, {"BACKUP_KEEP": "many"})
    assert told.value.exit_code == backup.EX_CONFIG
    assert "BACKUP_KEEP='many': expected a whole number" in str(told.value)
    assert "BACKUP_PASSPHRASE_FILE is not set" in str(told.value)
    (root / "passphrase").chmod(0o644)
    with pytest.raises(BackupError, match=r"(?s)BACKUP_KEEP.*chmod 600"):
        make(root, BACKUP_KEEP=0)
    (root / "passphrase").chmod(0o600)
    assert "BACKUP_KEEP='0': expected a whole number of at least 1" in fails(
        backup.EX_CONFIG, root, BACKUP_KEEP=0
    )


def test_no_env_file_names_make_setup(root: Path) -> None:
    (root / ".env").unlink()
    assert "make setup" in fails(backup.EX_CONFIG, root)


def test_one_at_a_time(root: Path, tmp_path: Path) -> None:
    sealed = make(root)
    with locks.acquire(root / "var" / "locks" / "backup.lock"):
        assert "another backup or restore is running" in fails(backup.EX_TEMPFAIL, root)
        with pytest.raises(BackupError) as told:
            restore(root, sealed, tmp_path / "back", root / "passphrase", fold_events)
        assert told.value.exit_code == backup.EX_TEMPFAIL


def test_nothing_is_restored_over_something(root: Path, tmp_path: Path) -> None:
    sealed = make(root)
    full = tmp_path / "full"
    full.mkdir()
    (full / "precious").write_text("mine")
    with pytest.raises(BackupError, match="not empty") as told:
        restore(root, sealed, full, root / "passphrase", fold_events)
    assert told.value.exit_code == backup.EX_CANTCREAT
    assert [p.name for p in full.iterdir()] == ["precious"]
    empty = tmp_path / "empty"
    empty.mkdir()
    restore(root, sealed, empty, root / "passphrase", fold_events)
    assert (empty / ".env").is_file()


@pytest.mark.parametrize("damage", ["page", "body", "zero", "cut"])
def test_a_damaged_journal_is_told_and_older_backups_stay(root: Path, damage: str) -> None:
    make(root)
    path = root / "var" / "journal" / "arbhunter-paper.db"
    if damage == "body":
        raw = sqlite3.connect(path, isolation_level=None)
        raw.execute("DROP TRIGGER entry_never_changes")
        raw.execute("UPDATE entry SET body = CAST('{}' AS BLOB) WHERE seq = 4")
        raw.close()
    else:
        content = bytearray(path.read_bytes())
        if damage == "page":
            content[4096:6000] = b"\xff" * (6000 - 4096)
        end = {"page": len(content), "zero": 0, "cut": 5000}[damage]
        path.write_bytes(content[:end])
    said = fails(backup.EX_DATAERR, root, NOW + 10**9, BACKUP_KEEP=1)
    assert "arbhunter-paper.db" in said
    assert (root / "backups" / NAME).is_file()


def test_retention_keeps_the_newest_and_only_ours(root: Path) -> None:
    directory = root / "backups"
    paths = [make(root, now_ns=NOW + n * 10**9, BACKUP_KEEP=3) for n in range(3)]
    (directory / "notes.txt").write_text("mine")
    (directory / "fleet-manual.tar.gpg").write_text("mine")
    fourth = make(root, now_ns=NOW + 3 * 10**9, BACKUP_KEEP=3)
    ours = sorted(p for p in directory.iterdir() if p.name.endswith("Z.tar.gpg"))
    assert ours == [*paths[1:], fourth]
    assert (directory / "notes.txt").exists()
    assert (directory / "fleet-manual.tar.gpg").exists()
    back_in_time = make(root, now_ns=NOW - 10**9, BACKUP_KEEP=1)
    assert [p for p in directory.iterdir() if p.name.endswith("Z.tar.gpg")] == [back_in_time]


def test_the_same_moment_twice_overwrites_nothing(root: Path) -> None:
    content = make(root).read_bytes()
    assert "there already" in fails(backup.EX_CANTCREAT, root)
    assert (root / "backups" / NAME).read_bytes() == content


def test_a_copy_is_a_moment_of_a_database_in_use(root: Path, tmp_path: Path) -> None:
    source = root / "var" / "journal" / "busy-paper.db"
    with JournalStore(source, bot="busy", mode="paper", run_id="r") as store:
        for n in range(3):
            store.write([fill(f"t{n}", "c")])
            target = tmp_path / f"copy{n}.db"
            archive.copy_database(source, target)
            with JournalReader(target, immutable=True) as copy:
                assert copy.check() == n + 1
    assert not list(tmp_path.glob("copy*.db-*"))


def collected(root: Path, tmp_path: Path) -> Path:
    tree = tmp_path / "tree"
    archive.collect(root, tree, now_ns=NOW, log_days=7)
    archive.prove(tree, fold_events)
    return tree


@pytest.mark.parametrize("what", ["missing", "extra", "changed", "no sums"])
def test_sums_cover_every_file(root: Path, tmp_path: Path, what: str) -> None:
    tree = collected(root, tmp_path)
    if what == "missing":
        (tree / "logs" / "arbhunter.log").unlink()
    elif what == "extra":
        (tree / "planted").write_text("")
    elif what == "changed":
        (tree / ".env").write_text("other")
    else:
        (tree / archive.SUMS).unlink()
    with pytest.raises(ArchiveDamaged):
        archive.prove(tree, fold_events)


def test_trades_must_agree_with_the_fold(root: Path, tmp_path: Path) -> None:
    tree = collected(root, tmp_path)
    lines = (tree / archive.TRADES).read_text().splitlines(keepends=True)
    (tree / archive.TRADES).write_text("".join(lines[:-1]))
    rewrite_sums(tree)
    with pytest.raises(ArchiveDamaged, match="fold to"):
        archive.prove(tree, fold_events)


def test_a_journal_of_a_newer_schema_is_not_called_proven(root: Path, tmp_path: Path) -> None:
    tree = collected(root, tmp_path)
    raw = sqlite3.connect(tree / "var" / "journal" / "polyai-paper.db")
    raw.execute("PRAGMA user_version=9")
    raw.close()
    rewrite_sums(tree)
    with pytest.raises(ArchiveDamaged, match="newer"):
        archive.prove(tree, fold_events)


@pytest.mark.parametrize("name", ["../evil", "/tmp/evil", "a/../../evil", "link", "fifo"])
def test_unpacking_stays_inside_and_takes_plain_files_only(tmp_path: Path, name: str) -> None:
    tar = tmp_path / "bad.tar"
    with tarfile.open(tar, "w") as file:
        member = tarfile.TarInfo(name)
        if name == "link":
            member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
        elif name == "fifo":
            member.type = tarfile.FIFOTYPE
        file.addfile(member)
    with pytest.raises(ArchiveDamaged, match="does not belong"):
        archive.unpack(tar, tmp_path / "in")
    assert not (tmp_path / "evil").exists()
    assert list((tmp_path / "in").iterdir()) == []


def test_the_proof_tells_cash_and_positions(root: Path) -> None:
    path = root / "var" / "journal" / "polyai-paper.db"
    proof = archive.fold_journal(path, fold_events, name="polyai")
    assert proof.entries == 1
    assert proof.folded.fills == 1
    assert proof.folded.cash == -parse_cash("5.25402")
    assert (
        describe(proof) == "polyai: polyai paper, 1 entries, 1 fills, cash -5.25, positions 777 10;"
        " the fold objects: fill x for unknown order c9"
    )


def test_a_fold_that_stops_early_is_no_proof(root: Path) -> None:
    path = root / "var" / "journal" / "arbhunter-paper.db"
    with pytest.raises(JournalDamaged, match="stopped at 1 of 11"):
        archive.fold_journal(
            path, lambda events: (next(iter(events)), fold_events([]))[1], name="a"
        )


def test_without_gpg_it_says_what_to_install(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(root))
    assert shutil.which("gpg") is None
    assert "apt-get install gnupg" in fails(backup.EX_UNAVAILABLE, root)
