"""Every public function says of what types its arguments are, and what it returns.

mypy, which knows no public and private, asks for no annotation where there is none at all.
"""

import ast
import pathlib

import pytest

ROOT = pathlib.Path(__file__).parents[1]
ANNOTATED = ("tfflows", "trainers", "zoo")  # Packages that are annotated throughout.


def public_functions(node, path=""):
    """Yields name and definition of each function, method, property and constructor."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ClassDef):
            if not child.name.startswith("_"):
                yield from public_functions(child, f"{path}{child.name}.")
        elif isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef)):
            if not child.name.startswith("_") or child.name.endswith("__"):
                yield f"{path}{child.name}", child, bool(path)
        else:
            yield from public_functions(child, path)


def missing(source):
    """Lists what has no type: `function(argument)`, or `function ->`."""
    found = []
    for name, function, is_method in public_functions(ast.parse(source)):
        arguments = function.args
        positional = [*arguments.posonlyargs, *arguments.args]
        static = "staticmethod" in map(ast.unparse, function.decorator_list)
        rest = [arguments.vararg, *arguments.kwonlyargs, arguments.kwarg]
        every = [*positional[is_method and not static :], *filter(None, rest)]
        found += [f"{name}({one.arg})" for one in every if one.annotation is None]
        found += [f"{name} ->"] if function.returns is None else []
    return found


@pytest.mark.parametrize("package", ANNOTATED)
def test_public_functions_are_annotated(package):
    files = sorted((ROOT / package).rglob("*.py"))
    found = {str(file.relative_to(ROOT)): missing(file.read_text()) for file in files}
    assert len(files) > 1
    assert {file: names for file, names in found.items() if names} == {}


@pytest.mark.parametrize(
    "source, expected",
    [
        ("def f(x: int) -> int: ...", []),
        ("def f(x, *args: int, y=1, **kwargs): ...", ["f(x)", "f(y)", "f(kwargs)", "f ->"]),
        ("def _f(x): ...", []),
        ("def f() -> int:\n  def inner(x): ...", []),
        ("class A:\n  def __init__(self, x: int): ...", ["A.__init__ ->"]),
        ("class A:\n  @property\n  def x(self): ...", ["A.x ->"]),
        ("class A:\n  @staticmethod\n  def f(x) -> int: ...", ["A.f(x)"]),
        ("class A:\n  class B:\n    def __call__(self, x) -> int: ...", ["A.B.__call__(x)"]),
        ("class _A:\n  def f(self, x): ...", []),
        ("if True:\n  async def f(x, /) -> int: ...", ["f(x)"]),
    ],
)
def test_what_is_missing_is_found(source, expected):
    assert missing(source) == expected
