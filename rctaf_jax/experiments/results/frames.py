"""Results folders as tables: one row a network (docs/results.md)."""

import os
from typing import TYPE_CHECKING

from rctaf_jax.extras import check_report

from .row import flat_row
from .studies import open_studies

if TYPE_CHECKING:
    import pandas


def load_frame(folder: str | os.PathLike[str]) -> "pandas.DataFrame":
    """Every network of a results folder, finished or not.

    Args:
      folder: of `rctaf sweep` or `rctaf reproduce`.

    Returns:
      A row for each network that was trained and measured, or diverged: the columns of members.csv
      (numbers of images, not percentages; None where nothing was measured), and before them
      `study`, the folder's name, `data`, `model`, `width`, `method` and `epsilon`.

    Raises:
      InputError: if it is no such folder, or holds no network yet, or pandas is not installed.

    Example:
      >>> from rctaf_jax.experiments import load
      >>> frame = load("results/digits")  # doctest: +SKIP
      >>> frame.groupby("family").robust_correct.mean()  # doctest: +SKIP
    """
    check_report("load", ["pandas"])
    import pandas  # a third of a second, which commands that need no table do not pay

    lines = []
    for study in open_studies(folder):
        results = study.results
        train = results.config.train
        told = {name: getattr(train, name) for name in ("model", "width", "method", "epsilon")}
        same = {"study": study.folder.name, "data": results.data["name"], **told}
        lines += [same | flat_row(row) for row in results.rows]
    return pandas.DataFrame(lines)
