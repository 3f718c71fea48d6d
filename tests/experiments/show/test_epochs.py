"""Lines of epochs."""

import itertools

import pytest

from rctaf_jax.experiments.show.epochs import EpochRow, epoch_header, epoch_line


@pytest.mark.parametrize(("size", "share"), [*itertools.product([0.0, 1.0, 9e5], [None, 0.0, 1.0])])
def test_they_fit_80_columns_under_their_header(size, share):
    row = EpochRow(
        1000, 1000, size * 1.234567, 1.0, size * 1e-7, size, size, clean=share, robust=share
    )
    for is_validated in (False, True):
        line = epoch_line(row, is_validated=is_validated)
        assert len(line) == len(epoch_header(is_validated=is_validated)) <= 80
