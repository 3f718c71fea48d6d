"""The package as it is installed, and the direction of its imports."""

import ast
import importlib
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from importlib.metadata import version
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = ("training", "eval", "hessian")
FOLDERS = ("rctaf_jax", "models", *ROOMS)
SOURCES = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))


SHELL = ROOT / "rctaf_jax" / "experiments"
SHELL_ROOMS = (
    "command",
    "paper",
    "pages",
    "claims",
    "appendix",
    "sweep",
    "cluster",
    "run",
    "results",
    "show",
)
"""From the top: each imports from those after it only."""


def name_of(path: Path) -> str:
    """The module's full name."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    parts = parts if parts[0] == "rctaf_jax" else ("rctaf_jax", *parts)
    return ".".join(parts).removesuffix(".__init__")


def imported(path: Path) -> set[str]:
    """Every module a file imports, wherever in it, by its full name inside `rctaf_jax`."""
    package = name_of(path).split(".")
    if path.stem != "__init__":
        package.pop()
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            base += [node.module] if node.module else []
            names |= {".".join([*base, *end]) for end in ((), *((a.name,) for a in node.names))}
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
    # The front door opens rooms when they are asked for, the shell's included.
    is_front = path.parent == ROOT / "rctaf_jax" and path.stem in ("cli", "__main__", "__init__")
    is_shell = "experiments" in path.parts or is_front
    rooms = {name.split(".")[1] for name in names if name.startswith("rctaf_jax.")}
    if not is_shell:
        assert rooms & {"models", *ROOMS, "experiments", "cli"} <= {room, *lower}
    if room != "models":
        assert not any(name.split(".")[0] == "flax" for name in names)
    assert "tensorflow" not in {name.split(".")[0] for name in names} or path.stem == "tfds"


@pytest.mark.parametrize("path", sorted(SHELL.rglob("*.py")), ids=name_of)
def test_the_rooms_of_the_shell_point_down(path):
    room = path.relative_to(SHELL).parts[0]
    order = dict(zip(SHELL_ROOMS, range(len(SHELL_ROOMS)), strict=True))
    reached = {
        name.split(".")[2] for name in imported(path) if name.startswith("rctaf_jax.experiments.")
    }
    wrong = {other for other in reached & {*order} if order[other] < order.get(room, 0)}
    assert not wrong


def test_a_room_of_the_shell_has_a_dozen_files_at_most():
    folders = {path.parent for path in SHELL.rglob("*.py")}
    assert {folder.name for folder in folders} == {"experiments", "exhibits", *SHELL_ROOMS}
    files = {
        folder.name: sum(path.stem != "__init__" for path in folder.glob("*.py"))
        for folder in folders
    }
    assert max(files.values()) <= 12, files


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Each way from a module back to itself that a walk in depth meets."""
    found, done = [], set()

    def walk(name, trail):
        if name in trail:
            found.append([*trail[trail.index(name) :], name])
        elif name not in done:
            for other in sorted(graph[name]):
                walk(other, [*trail, name])
            done.add(name)

    for name in sorted(graph):
        walk(name, [])
    return found


def test_a_circle_is_found():
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == [["b", "c", "b"]]
    assert circles({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []


def test_no_module_is_in_a_circle():
    """A package's own modules run its `__init__`, which is no import of theirs."""
    files = {name_of(path): path for path in SOURCES}
    graph = {}
    for name, path in files.items():
        graph[name] = (imported(path) & files.keys()) - {name}
        # `from .rows import Row` names the package too: only what is in it is imported.
        graph[name] -= {other for other in graph[name] if name.startswith(f"{other}.")}
    assert circles(graph) == []


def test_only_one_file_calls_pmap():
    calls = [path.name for path in SOURCES if "jax.pmap(" in path.read_text()]
    assert calls == ["parallel.py"]


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> tuple[Path, Path, str]:
    """A source distribution, the wheel built from it, and what was said meanwhile."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--outdir", str(folder), str(ROOT)]
    # Where Python is told to write no bytecode, setuptools warns that it writes none.
    environment = {name: value for name, value in os.environ.items() if "BYTECODE" not in name}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    (source,), (wheel,) = folder.glob("*.tar.gz"), folder.glob("*.whl")
    return source, wheel, done.stdout + done.stderr


def test_it_is_built_without_a_warning(built):
    assert [line for line in built[2].splitlines() if "warning" in line.lower()] == []


def test_the_source_distribution_can_be_tested_and_read(built):
    with tarfile.open(built[0]) as archive:
        names = {
            name.partition("/")[2]: archive.getmember(name).size for name in archive.getnames()
        }
    for needed in (
        "CHANGELOG.md",
        "CITATION.cff",
        "LICENSE",
        "benchmarks/harness.py",
        "docs/design.md",
        "models/resnet.py",
        "notebooks/activations.ipynb",
        "results/digits/members.csv",
        "tests/conftest.py",
        "tests/eval/data/small_cnn.npz",
        "tests/training/methods/test_methods.py",
    ):
        assert needed in names
    assert not [name for name in names if name.endswith((".png", ".svg", ".pyc"))]
    assert sum(names.values()) < 10e6


def test_the_wheel_holds_one_package(built):
    with zipfile.ZipFile(built[1]) as archive:
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


def test_the_wheel_runs(built, tmp_path):
    """Before this environment's own install on Python's path, from its folder alone."""
    install = ["-m", "pip", "install", "--quiet", "--no-deps", "--target", str(tmp_path)]
    subprocess.run([sys.executable, *install, str(built[1])], check=True, capture_output=True)
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}

    def output(*words: str) -> str:
        command = [sys.executable, "-P", *words]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    place = output("-c", "import rctaf_jax.models; print(rctaf_jax.models.__file__)")
    assert Path(place) == tmp_path / "rctaf_jax" / "models" / "__init__.py"
    assert output("-m", "rctaf_jax", "--version") == f"rctaf-jax {version('rctaf-jax')}"


@pytest.fixture(scope="module")
def installed() -> Path:
    """The folder of the installed package, which the working folder may hide."""
    code = "import importlib.util as u; print(u.find_spec('rctaf_jax').origin)"
    command = [sys.executable, "-P", "-c", code]
    found = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return Path(found.strip()).parent


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_the_install_is_a_folder_with_every_module_in_it(path, installed):
    """Type checkers and editors run no import hooks: they look for files."""
    place = path.relative_to(ROOT)
    place = installed / (place.relative_to("rctaf_jax") if place.parts[0] == "rctaf_jax" else place)
    assert place.is_file(), "a new file: install again, pip install -e '.[test]'"


@pytest.mark.parametrize("is_clone", [False, True])
def test_it_imports_from_anywhere(is_clone, tmp_path):
    """In a clone Python sees the clone's `rctaf_jax/` first, which lacks the rooms beside it."""
    code = (
        "import rctaf_jax, rctaf_jax.eval, rctaf_jax.hessian, rctaf_jax.models, rctaf_jax.training;"
        "print(rctaf_jax.max_curvature(14.0, beta=1))"
    )
    command = [sys.executable, "-c", code]
    where = ROOT if is_clone else tmp_path
    result = subprocess.run(command, cwd=where, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert float(result.stdout) == 7.0


def test_a_published_package_has_its_address(tmp_path):
    """As the workflow of a tag runs it: URLs, and links and pictures that an index can follow."""
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, tmp_path)
    address = "https://example.org/somebody/rctaf_jax"
    command = [sys.executable, str(ROOT / ".github" / "with_address.py"), address, "v1.2"]
    subprocess.run(command, cwd=tmp_path, check=True)
    before = re.findall(r"\]\(([^)\s]+)\)", (ROOT / "README.md").read_text())
    after = re.findall(r"(!?)\[[^\]]*\]\(([^)\s]+)\)", (tmp_path / "README.md").read_text())
    assert len(after) == len(before) > 10
    for (is_picture, place), old in zip(after, before, strict=True):
        view = "raw" if is_picture else "blob"
        assert place == (f"{address}/{view}/v1.2/{old}" if "://" not in old else old)
    assert any(is_picture for is_picture, _ in after)
    project = tomllib.loads((tmp_path / "pyproject.toml").read_text())["project"]
    assert project["urls"]["Homepage"] == address
    assert project["urls"]["Issues"] == f"{address}/issues"


def test_the_readme_example_runs():
    text = (ROOT / "README.md").read_text()
    example = text.split("```python\n")[1].split("```")[0]
    lines = [line for line in example.splitlines() if line.strip()]
    assert len(lines) <= 10
    scope: dict = {}
    exec(compile(example, "README.md", "exec"), scope)
    assert scope["alpha"] == 14.0
    assert scope["logits"].shape == (1, 10)


def test_subpackages_are_there_when_asked_for():
    """In a fresh process: `import rctaf_jax` loads no more than JAX and the activations."""
    script = """
import sys
import rctaf_jax
heavy = {"flax", "optax", "orbax", "matplotlib", "tyro", "pandas", "scipy"} & set(sys.modules)
assert not heavy, heavy
assert rctaf_jax.eval.autoattack and rctaf_jax.models.create and rctaf_jax.hessian.exact_diagonal
assert rctaf_jax.training.trades_loss and rctaf_jax.data.load and rctaf_jax.load_network
assert {"eval", "load_network"} <= set(dir(rctaf_jax))
print(rctaf_jax.__version__, hasattr(rctaf_jax, "nothing"))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{version('rctaf-jax')} False\n"


PUBLIC = ("", "activations", "data", "eval", "experiments", "hessian", "models", "training")


@pytest.mark.parametrize("package", PUBLIC)
def test_what_is_public_is_there_and_says_what_it_does(package):
    module = importlib.import_module(f"rctaf_jax.{package}".rstrip("."))
    for name in module.__all__:
        part = getattr(module, name)
        if callable(part) and getattr(part, "__module__", "").startswith("rctaf_jax"):
            assert (part.__doc__ or "").strip(), name
