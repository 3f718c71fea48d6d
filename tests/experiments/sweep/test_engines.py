"""Which engine the flags choose, and what they may not say."""

import sys

import pytest

from rctaf_jax.cli import main
from rctaf_jax.config import EngineConfig
from rctaf_jax.errors import InputError
from rctaf_jax.experiments.sweep.engines import run_with
from rctaf_jax.experiments.sweep.sweep import run_members


def test_the_default_is_this_process():
    assert run_with(EngineConfig()) is run_members


def test_an_address_needs_ray(capsys, tmp_path):
    output = tmp_path / "results"
    assert main(["sweep", "--address", "10.0.0.1:6379", "--output", str(output)]) == 2
    assert "address 10.0.0.1:6379 is that of a Ray cluster" in capsys.readouterr().err
    assert not output.exists()


def test_without_ray_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(InputError, match=r"pip install 'rctaf-jax\[ray\]'"):
        run_with(EngineConfig("ray"))
