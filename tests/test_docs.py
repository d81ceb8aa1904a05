"""Runs every ```python block of README.md and docs/, each on its own.

A block whose previous line is `<!-- skip -->` is left out. Examples in docstrings run with
`pytest --doctest-modules`.
"""

import pathlib
import re

import pytest

# The pages import them: named here, they are dependencies of this test in BUILD.
import tfflows  # noqa: F401
import zoo  # noqa: F401

ROOT = pathlib.Path(__file__).parents[1]
BLOCK = re.compile(r"^(<!-- skip -->\n)?^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


def pages():
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def blocks(page):
    """(line number, code) of each block that is not skipped."""
    text = page.read_text()
    for match in BLOCK.finditer(text):
        if not match[1]:
            yield text.count("\n", 0, match.start(2)) + 1, match[2]


def cases():
    for page in filter(pathlib.Path.exists, pages()):
        for line, code in blocks(page):
            yield pytest.param(page, line, code, id=f"{page.relative_to(ROOT)}:{line}")


@pytest.mark.parametrize("page, line, code", list(cases()))
def test_block_runs(page, line, code, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "Agg")
    # Empty lines before it make a traceback show the line in the page.
    exec(compile("\n" * (line - 1) + code, str(page), "exec"), {"__name__": "__main__"})


def test_readme_has_an_example():
    assert list(blocks(ROOT / "README.md"))


def test_blocks_are_found(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "text\n```python\na = 1\n```\n<!-- skip -->\n```python\nb\n```\n```bash\nc\n```\n"
        "```python\nd = 2\n\ne = 3\n```\n"
    )
    assert list(blocks(page)) == [(3, "a = 1\n"), (13, "d = 2\n\ne = 3\n")]
