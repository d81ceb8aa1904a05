"""Runs every ```python block of README.md, docs/ and the packages' docstrings, each on its own.

A block whose previous line is `<!-- skip -->` is left out; `<!-- notebook -->` leaves it to
tools/notebooks, `<!-- slow -->` to `-m slow`, `<!-- with NAME -->` to tests/test_peers.py, as it is
another library's. Examples in docstrings that begin with `>>>` run with `pytest --doctest-modules`.
"""

import ast
import pathlib
import re
import textwrap
from unittest import mock

import networkx  # noqa: F401  The pages import it, and what follows: named here, BUILD has them.
import pytest

import tfflows  # noqa: F401
import trainers  # noqa: F401
import zoo
from zoo import registry

ROOT = pathlib.Path(__file__).parents[1]
PACKAGES = ("tfflows", "trainers", "zoo")
BLOCK = re.compile(
    r"^(?:<!-- (skip|notebook|slow|with \w+) -->\n)?^```python\n(.*?)^```", re.MULTILINE | re.DOTALL
)
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def pages():
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def modules():
    return sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


def blocks(text, first_line=1):
    """(line number, code, "slow" or `None`) of each block that is not skipped."""
    for match in BLOCK.finditer(text):
        if match[1] in (None, "slow"):
            yield text.count("\n", 0, match.start(2)) + first_line, match[2], match[1]


def docstrings(source):
    """(line number, text without the indent) of each docstring, public or not."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, DOCUMENTED) and ast.get_docstring(node, clean=False):
            expression = node.body[0]
            first, *rest = expression.value.value.splitlines(keepends=True)
            yield expression.lineno, first + textwrap.dedent("".join(rest))


def blocks_of(path):
    text = path.read_text()
    if path.suffix == ".md":
        yield from blocks(text)
    else:
        for line, docstring in docstrings(text):
            yield from blocks(docstring, line)


def cases():
    for path in filter(pathlib.Path.exists, [*pages(), *modules()]):
        for line, code, slow in blocks_of(path):
            marks = [pytest.mark.slow] if slow else []
            yield pytest.param(path, line, code, marks=marks, id=f"{path.relative_to(ROOT)}:{line}")


@pytest.mark.parametrize("path, line, code", list(cases()))
def test_block_runs(path, line, code, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    # Empty lines before it make a traceback show the line in the file.
    compiled = compile("\n" * (line - 1) + code, str(path), "exec")
    # Undoes what a block sets and registers, too: other tests go through all models.
    with mock.patch.dict("os.environ", MPLBACKEND="Agg"), mock.patch.dict(registry._MODELS):
        exec(compiled, {"__name__": "__main__"})


def test_readme_and_docstrings_have_examples():
    assert list(blocks_of(ROOT / "README.md"))
    assert any(blocks_of(path) for path in modules())


def test_the_page_of_models_names_every_model():
    page = (ROOT / "docs" / "models.md").read_text()
    named = set(re.findall(r"`([a-z0-9_]+\.[a-z0-9_*]+)`", page))
    for name in zoo.list_models():
        model, (architecture, data) = zoo.find(name), name.split(".")
        if model.num_levels is None:  # A row for all data sets of a kind.
            assert f"{architecture}.*" in named
            assert f"`{data}`" in page
        else:
            assert name in named


def test_blocks_are_found():
    text = (
        "text\n```python\na = 1\n```\n<!-- skip -->\n```python\nb\n```\n```bash\nc\n```\n"
        "<!-- with zuko -->\n```python\nc\n```\n<!-- slow -->\n```python\nd = 2\n\ne = 3\n```\n"
    )
    assert list(blocks(text)) == [(3, "a = 1\n", None), (18, "d = 2\n\ne = 3\n", "slow")]


def test_blocks_in_docstrings_are_found(tmp_path):
    path = tmp_path / "module.py"
    path.write_text(
        '"""A module."""\n\n\ndef _private():\n    """A function.\n\n    ```python\n    if True:\n'
        '        a = 1\n    ```\n    """\n    b = """\n```python\nno docstring\n```\n"""\n'
    )
    assert list(blocks_of(path)) == [(8, "if True:\n    a = 1\n", None)]
