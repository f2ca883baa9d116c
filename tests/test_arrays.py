"""Small things that arrays and lists have in common."""

from __future__ import annotations

import numpy as np
import pytest

from omnimatte_cli.arrays import at_most


@pytest.mark.parametrize("count", [0, 1, 5, 9, 10, 11, 19, 20, 21, 1000])
def test_at_most_takes_evenly_and_no_more_than_asked(count: int) -> None:
    found = at_most(list(range(count)), 10)
    assert len(found) <= 10 and found[:1] == list(range(count))[:1]
    assert len(set(np.diff(found).tolist())) <= 1
    assert count > 10 or len(found) == count
    np.testing.assert_array_equal(at_most(np.arange(count), 10), found)
