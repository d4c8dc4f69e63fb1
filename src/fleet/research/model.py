"""The model: gradient-boosted trees of the forward move, calibrated; plain numbers, no code.

Theory of operation. ``fit`` lets scikit-learn's histogram boosting (one thread, fixed seed, no
random early stopping) grow trees. How far their log odds can be believed is learnt from rows they
have not seen: the rows are cut in parts, each is scored by trees grown on the others (purged, with
an embargo), and Platt's scaling (1999) is fitted to all of those. Then the trees are grown once
more on all rows: what is newest is learnt from too. What comes out is copied
into flat arrays; ``scores`` walks them in one compiled loop. So a bot that trades the model imports
no scikit-learn, one row costs microseconds instead of milliseconds, and the file of a model holds
numbers only: nothing in it can be executed, unlike a pickle.

Invariants, tested: the log odds are scikit-learn's own to the last bit; one row alone scores as it
does among many; ``from_bytes(to_bytes())`` is the same model. A calibration that would turn the
model against itself (a slope below 0) says that it knows nothing: the slope is then 0.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, fields
from itertools import pairwise
from typing import Any, Final

import numpy as np
from numba import njit
from numpy.typing import NDArray

from fleet.forecasting import logistic
from fleet.research.series import Floats, Times
from fleet.research.training_plan import Choice, TrainingError

MAGIC: Final = b"fleet-model-1\n"
CALIBRATION_FOLDS: Final = 2
PENALTY: Final = (1.0, 1e-3)
"""Slope: normal around 1, deviation 1, the trees taken at their word unless unseen rows object.
Intercept: next to free, the rate of paying moves drifts."""
HEADER_MAX: Final = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Model:
    """Trees in flat arrays: ``roots`` (trees) into the others (nodes).

    A node that is a leaf gives ``value``; any other goes ``left`` if the value of ``column`` is not
    above ``threshold``. ``names`` are the features, in the order of the columns.
    """

    names: tuple[str, ...]
    start: float
    slope: float
    intercept: float
    roots: NDArray[np.int32]
    leaf: NDArray[np.uint8]
    column: NDArray[np.int32]
    threshold: Floats
    left: NDArray[np.int32]
    right: NDArray[np.int32]
    value: Floats

    def log_odds(self, values: Floats) -> Floats:
        """The trees' own log odds of each row of ``values`` (rows, features), not calibrated."""
        return self._walk(values, calibrated=False)

    def scores(self, values: Floats) -> Floats:
        """The calibrated probability of each row; NaN where a feature is NaN.

        Raises ``ValueError`` if the columns are not as many as the features.
        """
        return self._walk(values, calibrated=True)

    def _walk(self, values: Floats, *, calibrated: bool) -> Floats:
        rows = np.atleast_2d(np.ascontiguousarray(values, np.float64))
        if rows.shape[1] != len(self.names):
            raise ValueError(f"{rows.shape[1]} columns for {len(self.names)} features")
        out = np.empty(len(rows))
        _walk(
            rows, self.roots, self.leaf, self.column, self.threshold, self.left, self.right,
            self.value, self.start, self.slope, self.intercept, int(calibrated), out,
        )  # fmt: skip
        return out

    # --- as a file ------------------------------------------------------------------------------

    def to_bytes(self) -> bytes:
        """A header of JSON and the arrays, little-endian; the same model gives the same bytes."""
        arrays = {name: getattr(self, name) for name in _ARRAYS}
        header = {
            "names": self.names, "start": self.start, "slope": self.slope,
            "intercept": self.intercept, "sizes": [len(array) for array in arrays.values()],
        }  # fmt: skip
        body = b"".join(np.ascontiguousarray(a, _ARRAYS[n]).tobytes() for n, a in arrays.items())
        return MAGIC + json.dumps(header).encode() + b"\n" + body

    @classmethod
    def from_bytes(cls, content: bytes) -> Model:
        """Read it again. Raises ``TrainingError`` for anything that is not exactly such a file."""
        try:
            model = cls(**_read(content))
        except (ValueError, KeyError, TypeError) as error:
            raise TrainingError(
                f"this is no model file ({error}); train the model again"
            ) from error
        model._check()
        return model

    def _check(self) -> None:
        """No node may lead out of the arrays or back: a damaged file must not hang or crash."""
        nodes = len(self.leaf)
        inner = self.leaf == 0
        here = np.arange(nodes)[inner]
        sound = (
            all(len(getattr(self, name)) == nodes for name in _ARRAYS if name != "roots")
            and bool(((self.roots >= 0) & (self.roots < nodes)).all())
            and bool((self.column[inner] < len(self.names)).all())
            and bool((self.column[inner] >= 0).all())
            and all(
                bool(((side[inner] > here) & (side[inner] < nodes)).all())
                for side in (self.left, self.right)
            )
        )
        if not sound:
            raise TrainingError("the trees of this model file are damaged; train the model again")


_ARRAYS: Final = {
    "roots": "<i4", "leaf": "<u1", "column": "<i4", "threshold": "<f8", "left": "<i4",
    "right": "<i4", "value": "<f8",
}  # fmt: skip


def _read(content: bytes) -> dict[str, Any]:
    if not content.startswith(MAGIC):
        raise ValueError("it does not begin as one")
    end = content.index(b"\n", len(MAGIC), len(MAGIC) + HEADER_MAX)
    header = json.loads(content[len(MAGIC) : end])
    found: dict[str, Any] = {key: float(header[key]) for key in ("start", "slope", "intercept")}
    at = end + 1
    for (name, kind), size in zip(_ARRAYS.items(), header["sizes"], strict=True):
        if not 0 <= int(size) <= len(content):
            raise ValueError("an array longer than the file")
        found[name] = np.frombuffer(content, kind, int(size), at).astype(kind[1:])
        at += found[name].nbytes
    if at != len(content):
        raise ValueError(f"{len(content) - at} bytes too many")
    return {**found, "names": tuple(str(name) for name in header["names"])}


@njit(cache=True, nogil=True, error_model="numpy")
def _walk(
    rows: Floats,
    roots: NDArray[np.int32],
    leaf: NDArray[np.uint8],
    column: NDArray[np.int32],
    threshold: Floats,
    left: NDArray[np.int32],
    right: NDArray[np.int32],
    value: Floats,
    start: float,
    slope: float,
    intercept: float,
    calibrated: int,
    out: Floats,
) -> None:
    for i in range(rows.shape[0]):
        known = True
        for j in range(rows.shape[1]):
            known = known and not math.isnan(rows[i, j])
        if not known:
            out[i] = math.nan
            continue
        total = start
        for root in roots:
            node = root
            while leaf[node] == 0:
                node = left[node] if rows[i, column[node]] <= threshold[node] else right[node]
            total += value[node]
        out[i] = 1.0 / (1.0 + math.exp(-(slope * total + intercept))) if calibrated > 0 else total


def fit(
    values: Floats,
    labels: Floats,
    train: Times,
    names: tuple[str, ...],
    choice: Choice,
    *,
    seed: int,
    embargo: int,
) -> Model:
    """Grow and calibrate on the rows ``train`` (rising) of ``values`` (bars, features).

    Raises ``TrainingError`` if the rows are too few or all alike.
    """
    rows = train[~np.isnan(labels[train])]
    bounds = [len(rows) * part // CALIBRATION_FOLDS for part in range(CALIBRATION_FOLDS + 1)]
    with _one_thread():
        unseen = np.empty(len(rows))
        for first, end in pairwise(bounds):
            _check_rows(labels[rows[first:end]], choice)
            start, stop = int(rows[first]), int(rows[end - 1])
            others = rows[(rows + choice.reach < start) | (rows > stop + choice.reach + embargo)]
            _check_rows(labels[others], choice)
            grown = _grow(values[others], labels[others], names, choice, seed)
            unseen[first:end] = grown.log_odds(values[rows[first:end]])
        model = _grow(values[rows], labels[rows], names, choice, seed)
        return _calibrated(model, unseen, labels[rows])


def _check_rows(labels: Floats, choice: Choice) -> None:
    paid = float(labels.sum())
    if len(labels) < 2 * choice.leaf_rows or not 0 < paid < len(labels):
        raise TrainingError(
            f"{len(labels)} rows, of which {paid:.0f} paid, teach nothing; give more bars"
        )


def _one_thread() -> Any:
    """Boosting spins on contended cores, and sums in another order on more threads."""
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    return threadpool_limits(limits=1)


def _grow(
    values: Floats, labels: Floats, names: tuple[str, ...], choice: Choice, seed: int
) -> Model:
    from sklearn.ensemble import HistGradientBoostingClassifier

    boosting = HistGradientBoostingClassifier(
        learning_rate=choice.learning_rate, max_iter=choice.trees, max_leaf_nodes=choice.leaves,
        min_samples_leaf=choice.leaf_rows, l2_regularization=choice.ridge,
        max_features=choice.columns, early_stopping=False, random_state=seed,
    )  # fmt: skip
    boosting.fit(values, labels)
    # Its trees have no public form; the test of equal bits notices if this one changes.
    trees = [tree.nodes for (tree,) in boosting._predictors]  # noqa: SLF001
    sizes = np.array([len(tree) for tree in trees])
    roots = np.concatenate(([0], np.cumsum(sizes)[:-1]))
    nodes = np.concatenate(trees)
    shift = np.repeat(roots, sizes)
    inner = nodes["is_leaf"] == 0
    return Model(
        names=names,
        start=float(boosting._baseline_prediction[0, 0]),  # noqa: SLF001
        slope=1.0, intercept=0.0,
        roots=roots.astype(np.int32),
        leaf=nodes["is_leaf"].astype(np.uint8),
        column=np.where(inner, nodes["feature_idx"], 0).astype(np.int32),
        threshold=np.where(inner, nodes["num_threshold"], 0.0),
        left=np.where(inner, nodes["left"].astype(np.int64) + shift, 0).astype(np.int32),
        right=np.where(inner, nodes["right"].astype(np.int64) + shift, 0).astype(np.int32),
        value=np.ascontiguousarray(nodes["value"]),
    )  # fmt: skip


def _calibrated(model: Model, raw: Floats, labels: Floats) -> Model:
    """``raw`` are log odds of rows that the trees which gave them had not seen."""
    found = logistic.fit(
        np.column_stack((raw, np.ones(len(raw)))), labels,
        penalty=np.array(PENALTY), centre=np.array([1.0, 0.0]),
    ).coefficients  # fmt: skip
    slope, intercept = float(found[0]), float(found[1])
    if slope <= 0:
        slope, intercept = 0.0, float(logistic.logit(float(labels.mean())))
    kept = {one.name: getattr(model, one.name) for one in fields(model)}
    return Model(**{**kept, "slope": slope, "intercept": intercept})
