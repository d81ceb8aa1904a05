"""Makes docs/notebooks/ of pages: text and skipped blocks as text, blocks that run as cells.

    python tools/site/notebooks.py [--text] [PAGE ...]      in the environment of tools/notebooks

Cells are run, in a folder of their own, and their outputs stored; with `--text` those stored are
kept. What fails leaves its notebook as it was. tests/test_notebooks.py says whether notebooks have
the cells of their pages.
"""

import json
import os
import pathlib
import re
import sys
import tempfile

ROOT = pathlib.Path(__file__).parents[2]
PAGES = (
    "getting-started",
    "photographs",
    "tables",
    "composing",
    "neutra",
    "mixture-classifier",
    "jax",
)
CODE = re.compile(
    r"^(?:<!-- (?P<mark>[\w ]+) -->\n)?^```python\n(?P<python>.*?)^```\n"
    r"|^<!-- notebook -->\n\n(?P<shell>(?:    [^\n]*\n)+)",
    re.MULTILINE | re.DOTALL,
)
LINK = re.compile(r"(?<=\]\()(?!#|\w+:)")
NOTE = "[As a notebook](notebooks/{}.ipynb), with outputs.\n"
MADE = "Made of [this page]({}.md) by `tools/notebooks`; needs tfflows, with `[train]`.\n"
LOGGED = re.compile(r"([IWEF]\d{4} \d\d:\d\d:|WARNING: All log messages|WARNING:tensorflow:).*")
# How fast it was, which is another matter on another machine.
SPEED = re.compile(r" ━+ \d+\w+ \S+/\w+| - \w+_per_second: [\d.]+")
# A command that fails is no error of its cell by itself.
STRICT = """
def strict(command, system=get_ipython().system):
    system(command)
    assert not _exit_code, f"{_exit_code}: {command}"

get_ipython().system = strict
"""
ANSI = re.compile(r"\x1b\[[\d;?]*[A-Za-z]")


def read(name):
    """Returns the cells of a page, ("markdown" or "code", source) each."""
    page = (ROOT / "docs" / f"{name}.md").read_text()
    if page.count(NOTE.format(name)) != 1:
        raise ValueError(f"docs/{name}.md must have the line {NOTE.format(name)!r}.")
    page = page.replace(NOTE.format(name), MADE.format(name))
    cells, end = [], 0
    for match in CODE.finditer(page):
        if match["mark"] == "skip":
            continue
        cells += [("markdown", to_text(page[end : match.start()]))]
        cells += [("code", match["python"] or to_commands(match["shell"]))]
        end = match.end()
    cells += [("markdown", to_text(page[end:]))]
    return [(kind, source.strip("\n")) for kind, source in cells if source.strip()]


def to_text(markdown):
    """Returns text of a page as it is a folder below, without comments."""
    return LINK.sub("../", re.sub(r"^<!-- .* -->\n", "", markdown, flags=re.MULTILINE))


def to_commands(indented):
    """Returns a block of commands for a cell."""
    lines = [line.removeprefix("    ") for line in indented.splitlines()]
    return "\n".join(line if line.startswith(" ") else f"!{line}" for line in lines)


def run(cells):
    """Returns a notebook with the outputs of its cells."""
    import nbformat
    from nbclient import NotebookClient

    new = nbformat.v4
    make = {"markdown": new.new_markdown_cell, "code": new.new_code_cell}
    made = [make[kind](source, id=f"cell-{i}") for i, (kind, source) in enumerate(cells)]
    spec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    metadata = {"kernelspec": spec, "language_info": {"name": "python"}}
    executed = [new.new_code_cell(STRICT), *made]
    notebook = new.new_notebook(cells=executed, metadata=metadata)
    with tempfile.TemporaryDirectory() as folder:
        client = NotebookClient(
            notebook, timeout=3600, resources={"metadata": {"path": folder}}, kernel_name="python3"
        )
        client.execute()
    notebook.cells, notebook.metadata = made, metadata
    for number, cell in enumerate((c for c in made if c.cell_type == "code"), start=1):
        cell.execution_count, cell.metadata = number, {}
        cell.outputs = tidy(cell.outputs)
        for output in cell.outputs:
            if output.output_type == "execute_result":
                output.execution_count = number
    nbformat.validate(notebook)
    return json.loads(nbformat.writes(notebook))


def tidy(outputs):
    """Returns outputs without logs, speeds and what was written over, texts in a row as one."""
    kept = []
    for output in outputs:
        if output.output_type != "stream":
            kept.append(output)
        elif output.name == "stdout" and kept and kept[-1].output_type == "stream":
            kept[-1].text += output.text
        elif output.name == "stdout":
            kept.append(output)
    for output in kept:
        if output.output_type == "stream":
            lines = ANSI.sub("", output.text).replace("\r\n", "\n").split("\n")
            lines = [re.split("[\r\b]", line.rstrip("\r\b"))[-1] for line in lines]
            lines = [LOGGED.sub("", line) for line in lines if not LOGGED.match(line)]
            output.text = SPEED.sub("", "\n".join(lines))
    return [output for output in kept if output.get("text", " ").strip() or "data" in output]


def with_text(notebook, cells):
    """Returns a stored notebook with other text around its code."""
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    if ["".join(cell["source"]) for cell in code] != [s for kind, s in cells if kind == "code"]:
        raise ValueError("The code has changed, too: run it, without --text.")
    made = []
    for i, (kind, source) in enumerate(cells):
        cell = code.pop(0) if kind == "code" else {"cell_type": kind, "id": "", "metadata": {}}
        made.append({**cell, "id": f"cell-{i}", "source": source.splitlines(keepends=True)})
    return {**notebook, "cells": made}


def main(names):
    """Writes the notebooks of pages."""
    keep = "--text" in names
    names = [name for name in names if name != "--text"]
    os.environ["PATH"] = os.pathsep.join(
        [str(pathlib.Path(sys.executable).parent), os.environ["PATH"]]
    )
    os.environ["PYTHONPATH"] = str(ROOT)
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "2"
    for name in names or PAGES:
        path = ROOT / "docs/notebooks" / f"{name}.ipynb"
        cells = read(name)
        notebook = with_text(json.loads(path.read_text()), cells) if keep else run(cells)
        path.write_text(json.dumps(notebook, indent=1, sort_keys=True, ensure_ascii=False) + "\n")
        print(f"{path.relative_to(ROOT)}: {len(cells)} cells", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
