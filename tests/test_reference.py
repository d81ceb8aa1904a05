"""Every public name has an entry in docs/reference/."""

import ast
import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).parents[1]
ENTRY = re.compile(r"^::: ([\w.]+)$", re.MULTILINE)
DEFINITIONS = (ast.ClassDef, ast.FunctionDef)


def source_of(module):
    path = ROOT / module.replace(".", "/")
    candidates = (path.with_suffix(".py"), path / "__init__.py")
    return next((file.read_text() for file in candidates if file.exists()), None)


def exported(module):
    """What `__all__` of a module lists, or what it defines without an underscore if it has none."""
    body = ast.parse(source_of(module)).body
    for node in body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return ast.literal_eval(node.value)
    return [node.name for node in body if isinstance(node, DEFINITIONS) and node.name[0] != "_"]


def public_names(module):
    """The full names of what is exported, also by the modules that are."""
    for name in exported(module):
        if source_of(f"{module}.{name}") is not None:
            yield from public_names(f"{module}.{name}")
        elif name != "__version__":
            yield f"{module}.{name}"


@pytest.mark.parametrize("package", ["tfflows", "zoo"])
def test_every_public_name_has_an_entry(package):
    pages = [page.read_text() for page in (ROOT / "docs" / "reference").glob("*.md")]
    entries = [name for page in pages for name in ENTRY.findall(page)]
    assert len(set(entries)) == len(entries)
    # One entry for what can be had from two modules, such as tfflows.training.FlowModel.
    last = {name.split(".")[-1] for name in entries if name.startswith(f"{package}.")}
    names = list(public_names(package))
    assert len(names) > 15
    assert [name for name in names if name.split(".")[-1] not in last] == []
