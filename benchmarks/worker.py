"""A process with another Python that takes requests: contestants that TensorFlow must not touch.

Requests and answers are lines of JSON, on the standard input and output of the process. The first
line is the process's own: the versions of its packages, or `{"error": ...}`.
"""

import contextlib
import json
import pathlib
import subprocess
from collections.abc import Iterator


class Worker:
    """The process, see `open_worker`."""

    def __init__(self, python: str, module: str, advice: str):
        self._module = module
        self._process = subprocess.Popen(
            [python, "-m", module],
            cwd=pathlib.Path(__file__).parents[1],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.environment = self._answer()
        if "error" in self.environment:
            raise SystemExit(f"{python}: {self.environment['error']}. {advice}")

    def ask(self, **request) -> dict:
        """Sends a request and returns the answer."""
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict:
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"The process of {self._module} ended; its error is above.")
        return json.loads(line)

    def close(self):
        """Ends the process."""
        self._process.stdin.close()
        self._process.wait()


@contextlib.contextmanager
def open_worker(python: str, module: str, advice: str) -> Iterator[Worker]:
    """Yields a `Worker` and ends its process.

    Args:
      python: the interpreter.
      module: the module that it runs.
      advice: what to do if that lacks a package.
    """
    worker = Worker(python, module, advice)
    try:
        yield worker
    finally:
        worker.close()
