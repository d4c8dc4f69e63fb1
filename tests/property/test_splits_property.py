"""Nothing that is learnt from reaches into what is tested, whatever the sizes."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.research.splits import purged_folds, walk_forward

SIZES = {
    "rows": st.integers(200, 600), "folds": st.integers(2, 6), "reach": st.integers(1, 20),
    "embargo": st.integers(0, 20), "first": st.integers(0, 50),
}  # fmt: skip


@given(**SIZES)
def test_no_label_of_a_fold_reaches_into_what_is_tested(
    rows: int, folds: int, reach: int, embargo: int, first: int
) -> None:
    splits = purged_folds(first, first + rows, folds=folds, reach=reach, embargo=embargo)
    tested = np.concatenate([np.arange(split.first, split.last) for split in splits])
    assert tested.tolist() == list(range(first, first + rows)), "each row is tested once"
    for split in splits:
        before = split.train[split.train < split.first]
        after = split.train[split.train >= split.last]
        assert len(before) + len(after) == len(split.train)
        # Row i's label is known reach bars later; a tested row's too.
        assert not len(before) or int(before.max()) + reach < split.first
        assert not len(after) or int(after.min()) >= split.last + reach + embargo


@given(**SIZES)
def test_walking_forward_learns_from_the_past_alone(
    rows: int, folds: int, reach: int, embargo: int, first: int
) -> None:
    walked = walk_forward(
        0, first + 100, first + 100 + rows, folds=folds, reach=reach, embargo=embargo
    )
    assert walked[0].first == first + 100
    assert walked[-1].last == first + 100 + rows
    for one, after in pairwise(walked):
        assert one.last == after.first
    for split in walked:
        assert int(split.train.min()) == 0
        assert int(split.train.max()) + reach + embargo < split.first


def test_too_few_rows_are_refused() -> None:
    with pytest.raises(ValueError, match="do not make 5 folds"):
        purged_folds(0, 4, folds=5, reach=1, embargo=0)
    with pytest.raises(ValueError, match="nothing is left to learn from"):
        walk_forward(0, 10, 40, folds=2, reach=8, embargo=5)
