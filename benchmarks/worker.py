"""A process with another Python that takes requests: contestants that TensorFlow must not touch.

Requests and answers are lines of JSON, on the standard input and output of the process. The first
line is the process's own: the versions of its packages, or `{"error": ...}`.
"""

import contextlib
import json
import os
import pathlib
import subprocess
from collections.abc import Callable, Iterator

from benchmarks import measuring


class Worker:
    """The process, see `open_worker`."""

    def __init__(self, python: str, module: str, advice: str):
        self._module = module
        self._process = subprocess.Popen(
            [python, "-m", module],
            cwd=pathlib.Path(__file__).parents[1],
            # Else the threads of PyTorch wait busily, and take the cores from whatever else runs.
            env={**os.environ, "OMP_WAIT_POLICY": os.environ.get("OMP_WAIT_POLICY", "passive")},
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

    def turns(self, name: str, **request) -> dict[tuple[str, int], Callable[[], float]]:
        """Returns contestants of `measuring.in_rounds`: a function with 1 thread, and with all.

        Args:
          name: of the contestant.
          **request: what to time, and for how long.
        """

        def turn(threads):
            return lambda: self.ask(**request, threads=threads)["seconds"]

        return {(name, threads): turn(threads) for threads in measuring.thread_counts()}

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
