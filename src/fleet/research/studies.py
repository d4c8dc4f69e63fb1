"""Where trials are kept: a journal file a study, one Postgres for many machines, or nowhere.

A study called NAME is two of Optuna's, ``NAME:coarse`` and ``NAME:fine``. Any number of workers
may append to a journal file on one machine (Optuna's ``JournalFileBackend``; measured at four times
the speed of SQLite) or to a Postgres database from many. What a worker needs besides the trials
stands in the study's attributes. Nothing here decides what is tried.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

from fleet.research.training_plan import TrainingError

if TYPE_CHECKING:
    import optuna

STAGES: Final = ("coarse", "fine")
ABOUT: Final = "fleet"
"""The attribute that holds what a worker needs."""
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")
_SUFFIX: Final = ".journal"


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyState:
    """One stage of a study in figures; ``best`` is the highest value of a whole trial."""

    study: str
    stage: str
    complete: int
    pruned: int
    failed: int
    running: int
    best: float | None


class Studies:
    """All studies of one place; ``root`` for journal files, unless ``database_url`` is given.

    Close it, or use it as a context manager, to give a database its connections back.
    """

    def __init__(self, root: Path, database_url: str = "") -> None:
        """Nothing is made before a study is."""
        self._root = root
        self._url = database_url
        self._database: optuna.storages.RDBStorage | None = None

    def close(self) -> None:
        """End the connections to the database, if there are any."""
        if self._database is not None:
            self._database.remove_session()
            self._database.engine.dispose()
            self._database = None

    def __enter__(self) -> Self:
        """Use it."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()

    def _connected(self) -> optuna.storages.RDBStorage:
        if self._database is None:
            self._database = _database(self._url)
        return self._database

    @property
    def shared(self) -> bool:
        """Whether other machines can reach it."""
        return bool(self._url)

    def storage(self, name: str, *, create: bool = False) -> optuna.storages.BaseStorage:
        """What Optuna writes to. Raises ``TrainingError`` for a name that is none or unknown."""
        _quiet()
        if not _NAME.fullmatch(name):
            raise TrainingError(
                f"{name!r} names no study: use up to 80 letters, digits, dots, dashes, underscores"
            )
        if self._url:
            return self._connected()
        path = self._root / f"{name}{_SUFFIX}"
        if create:
            self._root.mkdir(parents=True, exist_ok=True)
        elif not path.exists():
            raise TrainingError(
                f"there is no study {name} in {self._root}; there are: "
                f"{', '.join(self.names()) or 'none'}"
            )
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend

        return JournalStorage(JournalFileBackend(str(path)))

    def names(self) -> list[str]:
        """All studies, by name."""
        if not self._url:
            return sorted(
                path.name.removesuffix(_SUFFIX) for path in self._root.glob(f"*{_SUFFIX}")
            )
        import optuna

        _quiet()
        found = optuna.get_all_study_names(storage=self._connected())
        return sorted({name.rpartition(":")[0] for name in found if name.endswith(":coarse")})

    def about(self, name: str) -> dict[str, Any]:
        """What the study's creator left for its workers. Raises ``TrainingError``."""
        import optuna

        storage = self.storage(name)
        try:
            study = optuna.load_study(study_name=f"{name}:coarse", storage=storage)
        except KeyError as error:
            raise TrainingError(f"there is no study {name}; `fleet train studies` lists") from error
        about = study.user_attrs.get(ABOUT)
        if not isinstance(about, Mapping):
            raise TrainingError(f"the study {name} is not one of `fleet train`, or just being made")
        return dict(about)

    def trials(self, name: str) -> dict[str, list[optuna.trial.FrozenTrial]]:
        """The trials of each stage there is."""
        import optuna

        storage = self.storage(name)
        present = set(optuna.get_all_study_names(storage=storage))
        return {
            stage: optuna.load_study(study_name=f"{name}:{stage}", storage=storage).trials
            for stage in STAGES
            if f"{name}:{stage}" in present
        }

    def states(self, name: str) -> list[StudyState]:
        """The figures of each stage."""
        return [_state(name, stage, trials) for stage, trials in self.trials(name).items()]


def in_memory() -> optuna.storages.BaseStorage:
    """A storage that ends with the process."""
    import optuna

    _quiet()
    return optuna.storages.InMemoryStorage()


def _state(name: str, stage: str, trials: list[optuna.trial.FrozenTrial]) -> StudyState:
    counts = dict.fromkeys(("COMPLETE", "PRUNED", "FAIL", "RUNNING"), 0)
    for trial in trials:
        if trial.state.name in counts:
            counts[trial.state.name] += 1
    values = [trial.value for trial in trials if trial.state.name == "COMPLETE"]
    return StudyState(
        study=name, stage=stage, complete=counts["COMPLETE"], pruned=counts["PRUNED"],
        failed=counts["FAIL"], running=counts["RUNNING"],
        best=max((value for value in values if value is not None), default=None),
    )  # fmt: skip


def _database(url: str) -> optuna.storages.RDBStorage:
    import optuna
    from sqlalchemy.exc import SQLAlchemyError

    driver = re.sub(r"^postgres(ql)?(\+\w+)?://", "postgresql+psycopg://", url)
    if not driver.startswith("postgresql+psycopg://"):
        raise TrainingError("DATABASE_URL must begin with postgresql://; unset it for a file")
    try:
        return optuna.storages.RDBStorage(driver)
    except SQLAlchemyError as error:
        # The text may hold the password.
        raise TrainingError(
            f"the database of DATABASE_URL cannot be used ({type(error).__name__}): check that it"
            " runs and that the address is right, or unset it to use a file"
        ) from None


def _quiet() -> None:
    """Optuna tells every trial on standard error; our own progress does."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
