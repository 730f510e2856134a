"""The set-up files agree with each other, and the modules keep to the order of the house."""

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
MODULES = sorted((ROOT / "occlab").rglob("*.py"))

ROOMS = [
    "__main__",
    "cli",
    "course",
    "pages",
    "machine",
    "workbench",
    "interop",
    "ablation",
    "training",
    "diagnosis",
    "viz",
    "models",
    "losses",
    "alignment",
    "ray_metrics",
    "metrics",
    "frames",
    "features",
    "visibility",
    "voxelize",
    "provenance",
    "settings",
    "grid",
    "files",
    "errors",
]
"""Top to bottom: a room may import what stands below it, nothing above."""


def name_of(requirement: str) -> str:
    return re.sub(r"[-_.]+", "-", re.match(r"[\w.-]+", requirement).group()).lower()


def constraints() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = [line.split("==") for line in lines if line and not line.startswith("#")]
    assert len({name_of(name) for name, _ in pins}) == len(pins), "a package is pinned twice"
    return {name_of(name): version for name, version in pins}


def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def conda() -> dict:
    return yaml.safe_load((ROOT / "environment.yml").read_text())


def conda_pip_lines() -> list[str]:
    return next(entry for entry in conda()["dependencies"] if isinstance(entry, dict))["pip"]


# --- pins -----------------------------------------------------------------------------------------------------------


def test_constraints_are_exact_and_portable():
    for name, version in constraints().items():
        assert re.fullmatch(r"[\w.]+", version), f"{name}=={version}: no local build such as +cpu, no second condition"


@pytest.mark.parametrize("group", ["dependencies", "course", "sweep", "interop", "test", "bench"])
def test_every_requirement_is_pinned_within_its_bounds(group):
    from packaging.requirements import Requirement

    wanted = project()["dependencies"] if group == "dependencies" else project()["optional-dependencies"][group]
    pins = constraints()
    for requirement in map(Requirement, wanted):
        pin = pins.get(name_of(requirement.name))
        assert pin, f"{requirement.name} is missing from constraints.txt"
        assert requirement.specifier.contains(pin), f"{requirement} against the pin {pin}"


def test_every_extra_is_covered():
    assert set(project()["optional-dependencies"]) == {"course", "sweep", "interop", "test", "bench"}, (
        "a new extra wants a line in the test above"
    )


def test_installed_versions_are_the_pinned_ones():
    """What these tests run with is what a newcomer gets."""
    from importlib.metadata import PackageNotFoundError, version

    differing = {}
    for name, pin in constraints().items():
        try:
            installed = version(name).partition("+")[0]
        except PackageNotFoundError:  # the other Open3D wheel, the bench extra
            continue
        if installed != pin:
            differing[name] = (installed, pin)
    assert not differing, f"(installed, pinned): {differing}; run make again"


def test_conda_environment_agrees_with_the_constraints():
    pins = constraints()
    named = {}
    for line in conda_pip_lines():
        if not line.startswith("-"):
            name, version = re.match(r"([\w.-]+)==([\w.]+)", line).groups()
            named[name_of(name)] = version
    assert named == {name: pins[name] for name in named}
    assert set(named) == {"torch", "numpy", "plotly", "ipywidgets", "jupyterlab", "open3d-cpu", "open3d"}


def test_conda_environment_installs_the_project_with_its_constraints():
    lines = conda_pip_lines()
    assert lines[-2:] == ["-c constraints.txt", "-e .[course,test,sweep]"]
    plain = [entry for entry in conda()["dependencies"] if isinstance(entry, str)]
    assert {"pip", "make"} <= set(plain)
    python = next(entry.partition("=")[2] for entry in plain if entry.startswith("python="))
    from packaging.specifiers import SpecifierSet

    assert SpecifierSet(project()["requires-python"]).contains(python)


def test_apt_packages_are_the_ones_the_set_up_checks():
    sys.path.insert(0, str(ROOT / "scripts"))
    try:
        import system_packages
    finally:
        sys.path.pop(0)
    assert (ROOT / "apt.txt").read_text().split() == list(system_packages.LIBRARIES.values())


# --- the house ------------------------------------------------------------------------------------------------------


def dotted(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room(module: str) -> str:
    """`occlab.frames.camera` stands in room `frames`."""
    return module.split(".")[1]


def imported_modules(path: Path) -> set[str]:
    """Modules of the package that a file imports anywhere, also inside functions; names of a package count as modules."""
    here = dotted(path).split(".")
    package = here if path.name == "__init__.py" else here[:-1]
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            base = [*base, *(node.module.split(".") if node.module else [])]
            found |= {".".join([*base, alias.name]) for alias in node.names}
    return {module for module in found if module.startswith("occlab.")}


@pytest.mark.parametrize("path", MODULES, ids=dotted)
def test_imports_point_down(path):
    if dotted(path) == "occlab":  # the front door may hand out names of every room
        return
    own = room(dotted(path))
    assert own in ROOMS, f"{own} has no place in the order of rooms yet"
    below = ROOMS[ROOMS.index(own) :]
    for module in imported_modules(path):
        target = room(module)
        if target in ROOMS:
            assert target in below, f"{dotted(path)} imports {module}, which is above it"
        else:  # a name such as __version__ from the front door
            assert target == "__version__", f"{dotted(path)} imports {module}, which has no place in the order of rooms"


@pytest.mark.parametrize("path", MODULES, ids=dotted)
def test_modules_stay_small(path):
    lines = len(path.read_text().splitlines())
    assert lines < 400, f"{path.relative_to(ROOT)} has {lines} lines: is it two ideas?"


OPTIONAL = (
    "open3d",
    "plotly",
    "IPython",
    "jupyterlab",
    "jupyter_client",
    "nbclient",
    "nbconvert",
    "nbformat",
    "ipywidgets",
    "cv2",
    "pandas",
    "pyarrow",
    "ray",
)

BLOCKED = """
import sys
blocked = set(sys.argv[1].split(","))
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in blocked:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Block())
import importlib
for module in sys.argv[2:]:
    importlib.import_module(module)
"""


def test_library_imports_on_a_bare_node():
    """Without Open3D, Plotly, OpenCV, pandas, Ray and Jupyter every module loads, the widgets apart."""
    bare = [dotted(path) for path in MODULES if "workbench" not in path.parts and path.name != "__main__.py"]
    done = subprocess.run([sys.executable, "-c", BLOCKED, ",".join(OPTIONAL), *bare], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr.strip().splitlines()[-1]


def test_blocking_blocks():
    done = subprocess.run([sys.executable, "-c", BLOCKED, "plotly", "plotly.io"], capture_output=True, text=True)
    assert done.returncode != 0
    assert "plotly" in done.stderr


def test_absent_package_is_one_sentence_with_the_command():
    from occlab.errors import OcclabError, require

    with pytest.raises(OcclabError, match=r"pip install 'occlab\[course\]'") as caught:
        require("occlab_no_such_package")
    assert "\n" not in str(caught.value)
