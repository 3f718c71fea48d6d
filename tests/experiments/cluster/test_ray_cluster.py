"""What is said where a cluster cannot be joined, or a node is not as this machine."""

import pytest

from rctaf_jax.errors import InputError
from rctaf_jax.experiments.cluster.ray_cluster import check_versions, connected
from rctaf_jax.experiments.run.environment import package_versions

ray = pytest.importorskip("ray", reason="Ray is not installed (the extra `ray`)")


def test_a_node_of_another_version_is_refused():
    check_versions(package_versions())
    with pytest.raises(InputError, match=r"has jax .*, this machine has 0\.0\.1: install the same"):
        check_versions(package_versions() | {"jax": "0.0.1"})


def test_a_cluster_that_wants_a_token_is_refused(monkeypatch):
    def refuse(**options):
        raise ray.exceptions.AuthenticationError("no token")

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(ray, "init", refuse)
    with pytest.raises(InputError, match=r"joined at local \(no token.*token as here"):
        connected(None).__enter__()


@pytest.mark.parametrize("kind", [Exception, TimeoutError, ConnectionError])
def test_a_cluster_that_is_slow_to_start_is_one_sentence(monkeypatch, kind):
    def refuse(**options):
        raise kind("The current node timed out during startup.\nSee the logs.")

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(ray, "init", refuse)
    with pytest.raises(InputError, match=r"at local \(The current .* startup. See the logs.\): "):
        connected(None).__enter__()
