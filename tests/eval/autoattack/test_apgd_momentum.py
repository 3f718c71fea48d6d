"""When APGD looks whether its steps are too long."""

import numpy as np

from rctaf_jax.eval.autoattack.apgd_momentum import windows


def test_published_checkpoints() -> None:
    closes = windows(100)
    assert np.flatnonzero(closes).tolist() == [22, 41, 57, 70, 80, 87, 93, 99]
    assert closes[closes > 0].tolist() == [22, 19, 16, 13, 10, 7, 6, 6]
    assert np.flatnonzero(windows(1)).tolist() == [1]
    assert np.flatnonzero(windows(10)).tolist() == [2, 3, 4, 5, 6, 7, 8, 9, 10]
