"""What may import what, as docs/architecture.md says: read from the files."""

import ast
import pathlib

import pytest

ROOT = pathlib.Path(__file__).parents[1]
# Each room with the rooms that it may import, beside itself.
BELOW = {
    "trainers": {"zoo", "tfflows"},
    "zoo": {"tfflows"},
    "tfflows._tensorflow": set(),
    "tfflows._keras": {"tfflows._tensorflow"},
    "tfflows.numerics": {"tfflows._tensorflow"},
}
BELOW["tfflows.evaluation"] = {"tfflows.numerics", "tfflows._keras", "tfflows._tensorflow"}
BELOW["tfflows.bijectors"] = BELOW["tfflows.networks"] = {
    "tfflows.evaluation",
    *BELOW["tfflows.evaluation"],
}
BELOW["tfflows.conditioning"] = BELOW["tfflows.bijectors"]
BELOW["tfflows.distributions"] = {
    "tfflows.conditioning",
    "tfflows.bijectors",
    *BELOW["tfflows.bijectors"],
}
BELOW["tfflows.analysis"] = {"tfflows.bijectors", *BELOW["tfflows.bijectors"]}
for rooms in BELOW.values():
    rooms.add("tfflows.types")  # The names of types, which know nothing themselves.
BELOW["tfflows.types"] = set()


def modules():
    """Name and path of each module of the three packages."""
    for package in ("tfflows", "zoo", "trainers"):
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            yield ".".join(parts).removesuffix(".__init__"), path


MODULES = dict(modules())


def imports(path):
    """The names that a file imports from the three packages, such as `zoo.registry.find`."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, path
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        yield from (name for name in names if name.split(".")[0] in ("tfflows", "zoo", "trainers"))


def room(name):
    """The room that a name is in: the longest of `BELOW`, or `None`."""
    rooms = [r for r in BELOW if name == r or name.startswith(f"{r}.")]
    return max(rooms, key=len, default=None)


def module_of(name):
    """The module that has an imported name."""
    return name if name in MODULES else name.rpartition(".")[0]


@pytest.mark.parametrize("name", [name for name in MODULES if room(name)])
def test_imports_point_one_way(name):
    own, packages = room(name), ("tfflows", "zoo", "trainers")
    allowed = {own, *BELOW[own]}
    for imported in imports(MODULES[name]):
        target = module_of(imported)
        if own in packages:
            top = target.split(".")[0]
            assert top in allowed, f"{name} imports {imported}"
        elif target != "tfflows":
            assert room(target) in allowed, f"{name} imports {imported}"


@pytest.mark.parametrize("name", MODULES)
def test_no_private_name_of_another_package_is_imported(name):
    path = MODULES[name]
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for imported in imports(path):
        parts = imported.split(".")
        for index, part in enumerate(parts[1:], start=1):
            owner = ".".join(parts[:index])
            private = part.startswith("_") and not part.startswith("__")
            assert not private or f"{package}.".startswith(f"{owner}."), imported


def test_numerics_knows_no_keras():
    for name, path in MODULES.items():
        if name.startswith("tfflows.numerics"):
            assert "import keras" not in path.read_text(), name


def test_few_files_hold_the_methods():
    assert len(list((ROOT / "tfflows/bijectors").glob("*.py"))) < 32
    assert len([path for path in ROOT.iterdir() if path.is_file() and path.name != ".git"]) < 14


def test_flags_are_defined_and_read_by_programs_alone():
    for name, path in MODULES.items():
        if name.startswith(("trainers.data", "trainers.runs", "zoo", "tfflows")):
            assert "flags" not in {i.split(".")[-1] for i in _all_imports(path)}, name


def _all_imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            yield from (alias.name for alias in node.names)
