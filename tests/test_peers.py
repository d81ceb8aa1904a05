"""docs/coming-from.md shows other libraries as they are: run by tools/test_peers."""

import os
import pathlib
import re
import subprocess
import sys

import pytest

PAGE = pathlib.Path(__file__).parents[1] / "docs/coming-from.md"
BLOCK = re.compile(r"^<!-- with (\w+) -->\n```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
LIBRARIES = ("TFP", "nflows", "zuko", "normflows", "FlowJAX", "distrax")


def program(library):
    """The blocks of a library, one after the other, each at its line in the page."""
    page, made = PAGE.read_text(), ""
    for match in BLOCK.finditer(page):
        if match[1] == library:
            made += "\n" * (page.count("\n", 0, match.start(2)) - made.count("\n")) + match[2]
    return made


@pytest.mark.peers
@pytest.mark.parametrize("library", LIBRARIES)
def test_the_blocks_of_a_library_run(library, tmp_path):
    python = sys.executable if library == "TFP" else os.environ["TFFLOWS_PEERS_PYTHON"]
    (tmp_path / "page.py").write_text(program(library))
    command = [python, "page.py"]
    done = subprocess.run(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 0, done.stderr


def test_every_task_has_a_block_of_every_library_or_says_that_there_is_none():
    _, *tasks = re.split(r"^## \d\. ", PAGE.read_text(), flags=re.MULTILINE)
    assert len(tasks) == 6
    for task in tasks:
        shown = [match[1] for match in BLOCK.finditer(task)]
        none = re.search(r"^None in (.*?):", task, re.MULTILINE)
        missing = re.findall(r"\w+", none[1].replace(" and ", " ")) if none else []
        assert sorted(shown + missing) == sorted(LIBRARIES)
