"""Models on disk: ``HASH/manifest.json`` and ``HASH/model.bin``, written once, never changed.

HASH is that of the manifest, which names the data (digest), features, choice, rule, figures, seed,
code and the SHA-256 of the model file. So a folder that was altered, or put together from two, is
refused, and the same training stores the same folder. A failed model is stored too, with its
reasons: what was tried is part of the record. ``tradable`` gives out only models that passed.

The model file holds numbers alone (``model``); nothing that is loaded here can be executed. The
hash is no signature: who may write into the folder can also write a manifest that fits.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from fleet.research.model import Model
from fleet.research.training_plan import TrainingError
from fleet.strategies.rules import Rule, RuleError

MANIFEST: Final = "manifest.json"
MODEL: Final = "model.bin"
_HASH: Final = re.compile(r"[0-9a-f]{16}")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Entry:
    """One stored model."""

    hash: str
    manifest: Mapping[str, Any]
    model: Model

    @property
    def passed(self) -> bool:
        """Whether the gate let it through."""
        return self.manifest["verdict"]["passed"] is True

    @property
    def rule(self) -> Rule:
        """The rule that acts on its scores."""
        return rule_of(self.manifest)


class Registry:
    """The models of one folder."""

    def __init__(self, root: Path) -> None:
        """Nothing is made before a model is stored."""
        self.root = root

    def save(self, manifest: Mapping[str, Any], content: bytes) -> str:
        """Store a model and its manifest at once or not at all; return the hash.

        Raises ``TrainingError`` if the manifest names another model file.
        """
        if manifest.get("model_sha256") != hashlib.sha256(content).hexdigest():
            raise TrainingError("the manifest is of another model file: nothing was stored")
        name = hash_of(manifest)
        folder = self.root / name
        if folder.exists():
            self.load(name)
            return name
        beside = self.root / f".{name}.{os.getpid()}.writing"
        shutil.rmtree(beside, ignore_errors=True)
        beside.mkdir(parents=True)
        for file, body in ((MODEL, content), (MANIFEST, _shown(manifest))):
            with (beside / file).open("wb") as output:
                output.write(body)
                output.flush()
                os.fsync(output.fileno())
        try:
            beside.rename(folder)
        except OSError:
            # Another process stored the same model in between.
            shutil.rmtree(beside)
            self.load(name)
        _sync(self.root)
        return name

    def load(self, name: str) -> Entry:
        """A stored model. Raises ``TrainingError`` if there is none or it was altered."""
        if not _HASH.fullmatch(name):
            raise TrainingError(f"{name!r} is no model: a hash has 16 digits of 0 to 9 and a to f")
        folder = self.root / name
        try:
            manifest = json.loads((folder / MANIFEST).read_bytes())
            content = (folder / MODEL).read_bytes()
        except FileNotFoundError as error:
            raise TrainingError(
                f"there is no model {name} in {self.root}; `fleet train models` lists them"
            ) from error
        except (OSError, ValueError) as error:
            raise TrainingError(
                f"the model {name} cannot be read ({error}): train again"
            ) from error
        whole = isinstance(manifest, dict) and hash_of(manifest) == name
        if not whole or manifest["model_sha256"] != hashlib.sha256(content).hexdigest():
            raise TrainingError(
                f"{folder} is not what was stored under its hash: remove it and train again"
            )
        return Entry(hash=name, manifest=manifest, model=Model.from_bytes(content))

    def tradable(self, name: str) -> Entry:
        """A stored model that passed. Raises ``TrainingError`` with the reasons if it did not."""
        entry = self.load(name)
        if not entry.passed:
            reasons = ", ".join(entry.manifest["verdict"]["reasons"])
            raise TrainingError(f"the model {name} did not pass the gate ({reasons}): it may not"
                                " trade; `fleet train models` lists those that may")  # fmt: skip
        return entry

    def entries(self) -> list[Entry]:
        """All stored models, those on the newest data first. Raises as ``load`` does."""
        names = [path.name for path in self.root.glob("*") if _HASH.fullmatch(path.name)]
        found = [self.load(name) for name in sorted(names)]
        return sorted(found, key=lambda one: (-int(one.manifest["series"]["last_ns"]), one.hash))

    def newest(self, exchange: str, symbol: str, interval_ns: int) -> Entry | None:
        """The model on the newest data of a series that passed, if any."""
        wanted = {"exchange": exchange, "symbol": symbol, "interval_ns": interval_ns}
        for entry in self.entries():
            series = entry.manifest["series"]
            if entry.passed and all(series[key] == value for key, value in wanted.items()):
                return entry
        return None


def hash_of(manifest: Mapping[str, Any]) -> str:
    """The hash of what a manifest says, however it is laid out."""
    plain = json.dumps(manifest, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(plain.encode()).hexdigest()[:16]


def rule_of(manifest: Mapping[str, Any]) -> Rule:
    """The rule in a manifest. Raises ``TrainingError`` if it makes none."""
    try:
        return Rule(**manifest["rule"])
    except (RuleError, TypeError, KeyError) as error:
        raise TrainingError(f"the manifest's rule makes no sense: {error}") from error


def plain(value: Any) -> Any:
    """As JSON takes it: a number that is none becomes null, as JSON has no NaN."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value


def _shown(manifest: Mapping[str, Any]) -> bytes:
    return (json.dumps(manifest, indent=1, sort_keys=True, allow_nan=False) + "\n").encode()


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
