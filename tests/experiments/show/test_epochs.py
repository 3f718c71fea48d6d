"""Lines of epochs."""

import pytest

from rctaf_jax.experiments.show.epochs import HEADER, EpochRow, epoch_line


@pytest.mark.parametrize("size", [0.0, 1.0, 9e5])
def test_they_fit_80_columns_under_their_header(size):
    line = epoch_line(EpochRow(1000, 1000, size * 1.234567, 1.0, size * 1e-7, size, size))
    assert len(line) == len(HEADER) <= 80
