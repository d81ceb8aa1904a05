"""Notebooks under docs/notebooks/ are those of their pages, which tools/notebooks runs."""

import json
import pathlib
import runpy

import pytest

ROOT = pathlib.Path(__file__).parents[1]
TOOL = runpy.run_path(str(ROOT / "tools/site/notebooks.py"))


def source(cell):
    return "".join(cell["source"])


@pytest.mark.parametrize("name", TOOL["PAGES"])
def test_a_notebook_has_the_cells_of_its_page_and_no_error(name):
    cells = json.loads((ROOT / "docs/notebooks" / f"{name}.ipynb").read_text())["cells"]
    again = f"The page has changed: tools/notebooks {name}, or tools/notebooks --text {name}"
    assert [(cell["cell_type"], source(cell)) for cell in cells] == TOOL["read"](name), again
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert code and all(cell["execution_count"] for cell in code)
    kinds = {output["output_type"] for cell in code for output in cell["outputs"]}
    assert kinds <= {"stream", "display_data", "execute_result"}


def test_every_notebook_has_a_page():
    stored = sorted(path.stem for path in (ROOT / "docs/notebooks").glob("*.ipynb"))
    assert stored == sorted(TOOL["PAGES"])


def test_blocks_become_cells(tmp_path, monkeypatch):
    page = (
        "# Rows\n\n[As a notebook](notebooks/rows.ipynb), with outputs.\n\n[on](tables.md#a)"
        "[there](https://a.b)\n\n```python\na = 1\n```\n\n<!-- skip -->\n```python\nb\n```\n\n"
        "<!-- notebook -->\n\n    python -m a \\\n        --b=1\n    python -m c\n\nEnd.\n\n"
        "    left as text\n\n<!-- slow -->\n```python\nc = 2\n```\n"
    )
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs/rows.md").write_text(page)
    monkeypatch.setitem(TOOL["read"].__globals__, "ROOT", tmp_path)
    kinds, sources = zip(*TOOL["read"]("rows"), strict=True)
    assert kinds == ("markdown", "code", "markdown", "code", "markdown", "code")
    assert "[on](../tables.md#a)[there](https://a.b)" in sources[0]
    assert sources[1:4:2] == ("a = 1", "!python -m a \\\n    --b=1\n!python -m c")
    assert sources[2] == "```python\nb\n```"
    assert sources[4:] == ("End.\n\n    left as text", "c = 2")
