"""gpg without a terminal: one file sealed with a passphrase (AES256), one file opened again.

Runs in a private, temporary GNUPGHOME whose agent is killed afterwards: nothing of the user's
keyring is read, made or left. The passphrase only ever travels as the *path* of a private file. An
opened file is to be trusted only if ``unseal`` returns: gpg writes plaintext even for a message
that was tampered with, so on any error what it wrote is removed.
"""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

_TIMEOUT_S: Final = 3600
"""No backup of ours takes an hour; a hung gpg must not hold the lock for ever."""
_COMMON: Final = (
    "--batch",
    "--yes",
    "--quiet",
    "--no-tty",
    "--no-symkey-cache",
    "--pinentry-mode",
    "loopback",
    "--status-fd",
    "2",
)
_SEAL: Final = (
    "--symmetric",
    "--cipher-algo",
    "AES256",
    "--s2k-mode",
    "3",
    "--s2k-digest-algo",
    "SHA512",
    "--s2k-count",
    "65011712",
)
"""The highest iteration count OpenPGP can write (RFC 4880, 3.7.1.3): a weak passphrase is at least
slow to guess."""


class GpgError(Exception):
    """gpg could not do it; the text names the cure."""


class GpgMissing(GpgError):  # noqa: N818 - named for what was found
    """There is no gpg on this machine."""


class GpgNoSpace(GpgError):  # noqa: N818 - named for what was found
    """gpg could not write its output: the disk is full, or it may not."""


class WrongPassphrase(GpgError):  # noqa: N818 - named for what was found
    """The passphrase does not open the file."""


class SealBroken(GpgError):  # noqa: N818 - named for what was found
    """The file is damaged, truncated or no sealed file at all."""


class PassphraseFileError(GpgError):
    """The passphrase file is missing, readable by others, or empty."""


def check_passphrase_file(path: Path) -> None:
    """Refuse a passphrase file that others could read. Raises ``PassphraseFileError``."""
    try:
        found = path.stat()
        first = _first_line(path) if stat.S_ISREG(found.st_mode) else b""
    except OSError as error:
        raise PassphraseFileError(
            f"cannot read the passphrase file {path}: {error.strerror}; make it with:"
            f" (umask 077; head -c 32 /dev/urandom | base64 > {path}) and keep a copy off this"
            " machine"
        ) from error
    if not stat.S_ISREG(found.st_mode):
        raise PassphraseFileError(f"the passphrase file {path} is no regular file; make it one")
    if found.st_mode & 0o077 or found.st_uid not in {os.geteuid(), 0}:
        raise PassphraseFileError(
            f"others can read or own the passphrase file {path} (mode"
            f" {stat.S_IMODE(found.st_mode):04o}); run: chmod 600 {path}, and change the passphrase"
            " if the machine has other users"
        )
    if not first:
        raise PassphraseFileError(
            f"the first line of the passphrase file {path} is empty; put the passphrase there"
        )


def _first_line(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.readline(4096).strip()


class Gpg:
    """gpg with one passphrase file and one private home; made by ``private_gpg``."""

    def __init__(self, passphrase_file: Path, home: Path) -> None:
        self._passphrase_file = passphrase_file
        self._home = home

    def seal(self, plain: Path, sealed: Path) -> None:
        """Encrypt ``plain`` to ``sealed`` (0600). Raises ``GpgError``."""
        code, said = self._run(*_SEAL, "--output", str(sealed), "--", str(plain))
        if code:
            sealed.unlink(missing_ok=True)
            raise _failure(said, f"cannot encrypt to {sealed}")

    def unseal(self, sealed: Path, plain: Path) -> None:
        """Decrypt ``sealed`` to ``plain`` (0600). Raises ``GpgError``; then ``plain`` is gone."""
        code, said = self._run("--decrypt", "--output", str(plain), "--", str(sealed))
        if code or "[GNUPG:] GOODMDC" not in said:
            plain.unlink(missing_ok=True)
            raise _failure(said, f"cannot decrypt {sealed}")

    def _run(self, *arguments: str) -> tuple[int, str]:
        check_passphrase_file(self._passphrase_file)
        try:
            done = subprocess.run(
                ["gpg", *_COMMON, "--passphrase-file", str(self._passphrase_file), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                env=_environment(self._home),
                umask=0o077,
                timeout=_TIMEOUT_S,
                check=False,
            )
        except FileNotFoundError as error:
            raise GpgMissing("gpg is not installed; run: apt-get install gnupg") from error
        except subprocess.TimeoutExpired as error:
            raise GpgError(f"gpg did not finish within {_TIMEOUT_S} s; look at the disk") from error
        return done.returncode, done.stderr.decode(errors="replace")


@contextmanager
def private_gpg(passphrase_file: Path, prefix: str) -> Iterator[Gpg]:
    """A ``Gpg`` whose home and agent live as long as the block.

    Homes named ``prefix`` that a killed run left behind are removed first; the caller's lock makes
    sure that none of them is in use.
    """
    check_passphrase_file(passphrase_file)
    if shutil.which("gpg") is None:
        raise GpgMissing("gpg is not installed; run: apt-get install gnupg")
    for stale in Path(tempfile.gettempdir()).glob(f"{prefix}*"):
        if stale.is_dir() and not stale.is_symlink() and stale.stat().st_uid == os.geteuid():
            _remove_home(stale)
    home = Path(tempfile.mkdtemp(prefix=prefix))
    try:
        yield Gpg(passphrase_file, home)
    finally:
        _remove_home(home)


def _environment(home: Path) -> dict[str, str]:
    return {
        "GNUPGHOME": str(home),
        "LC_ALL": "C",
        "PATH": os.environ.get("PATH", os.defpath),
    }


def _remove_home(home: Path) -> None:
    if shutil.which("gpgconf") is not None:
        subprocess.run(
            ["gpgconf", "--kill", "all"],
            env=_environment(home),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=60,
            check=False,
        )
    shutil.rmtree(home, ignore_errors=True)


def _failure(said: str, doing: str) -> GpgError:
    lines = [line for line in said.splitlines() if line.startswith("gpg: ")]
    reason = lines[-1].removeprefix("gpg: ") if lines else "gpg gave no reason"
    if "BAD_PASSPHRASE" in said:
        return WrongPassphrase(
            f"{doing}: the passphrase is not the one it was made with; name the right file"
        )
    if "No space left" in said or "Permission denied" in said or "Read-only file" in said:
        found = next((line for line in lines if "No space" in line), reason)
        return GpgNoSpace(f"{doing}: {found.removeprefix('gpg: ')}; free space or correct the path")
    if "decrypt" in doing:
        return SealBroken(
            f"{doing}: damaged or truncated ({reason}); use another backup, this one is lost"
        )
    return GpgError(f"{doing}: {reason}")
