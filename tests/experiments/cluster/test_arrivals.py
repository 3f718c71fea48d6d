"""What a command ends with after a task's error."""

from importlib.metadata import PackageNotFoundError

import pytest

from rctaf_jax.errors import InputError
from rctaf_jax.experiments.cluster.arrivals import reason_to_end

ray = pytest.importorskip("ray", reason="Ray is not installed (the extra `ray`)")


@pytest.mark.parametrize(
    ("cause", "lack"),
    [
        (ModuleNotFoundError("No module named 'flax'", name="flax"), "No module named 'flax'"),
        (PackageNotFoundError("optax"), "No package metadata was found for optax"),
        (RuntimeError("No module named 'rctaf_jax', says the worker"), "No module named 'rctaf_"),
        (RuntimeError("the images are upside down"), None),
    ],
)
def test_a_node_that_lacks_a_package_is_named(cause, lack):
    error = ray.exceptions.RayTaskError("train_here", f"Traceback: {cause}", cause)
    end = reason_to_end(error, "relu-seed0", attempt=1)
    if lack is None:
        assert end is error
    else:
        assert isinstance(end, InputError)
        assert f"({lack}" in str(end)
        assert str(end).endswith("install the same packages on all nodes.")
