"""The package as it is installed, and the direction of its imports."""

import ast
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = ("training", "eval", "hessian")
FOLDERS = ("rctaf_jax", "models", *ROOMS)
SOURCES = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))


def imported(path: Path) -> set[str]:
    """Every module a file imports, by its full name inside `rctaf_jax`."""
    package = ["rctaf_jax", *path.relative_to(ROOT).parts[:-1]]
    if package[1] == "rctaf_jax":
        package.pop(1)
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            names.add(".".join([*base, *([node.module] if node.module else [])]))
    return names


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_down(path):
    names, room = imported(path), path.relative_to(ROOT).parts[0]
    lower = {
        "rctaf_jax": (),
        "models": (),
        "training": ("models",),
        "eval": (),
        "hessian": (),
    }[room]
    is_shell = "experiments" in path.parts or path.stem in ("cli", "__main__")
    rooms = {name.split(".")[1] for name in names if name.startswith("rctaf_jax.")}
    if not is_shell:
        assert rooms & {"models", *ROOMS, "experiments", "cli"} <= {room, *lower}
    if room != "models":
        assert not any(name.split(".")[0] == "flax" for name in names)
    assert "tensorflow" not in {name.split(".")[0] for name in names} or path.stem == "tfds"


def test_only_one_file_calls_pmap():
    calls = [path.name for path in SOURCES if "jax.pmap(" in path.read_text()]
    assert calls == ["parallel.py"]


def test_the_wheel_holds_one_package(tmp_path):
    command = [sys.executable, "-m", "build", "--wheel", "--outdir", str(tmp_path), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"rctaf_jax"}
    for needed in (
        "rctaf_jax/data/digits.npz",
        "rctaf_jax/data/README.md",
        "rctaf_jax/experiments/pages/templates/report.html.jinja",
        "rctaf_jax/models/resnet.py",
        "rctaf_jax/training/methods/trades.py",
        "rctaf_jax/hessian/hutchinson.py",
        "rctaf_jax/eval/pgd.py",
        "rctaf_jax/py.typed",
    ):
        assert needed in names


def test_it_imports_from_anywhere(tmp_path):
    code = (
        "import rctaf_jax, rctaf_jax.eval, rctaf_jax.hessian, rctaf_jax.models, rctaf_jax.training;"
        "print(rctaf_jax.max_curvature(14.0, beta=1))"
    )
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert float(result.stdout) == 7.0


def test_the_readme_example_runs():
    text = (ROOT / "README.md").read_text()
    example = text.split("```python\n")[1].split("```")[0]
    lines = [line for line in example.splitlines() if line.strip()]
    assert len(lines) <= 10
    scope: dict = {}
    exec(compile(example, "README.md", "exec"), scope)
    assert scope["alpha"] == 14.0
    assert scope["logits"].shape == (1, 10)
