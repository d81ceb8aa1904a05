"""Speed of the convolutional Sylvester flow against the same equations in plain PyTorch.

python -m benchmarks.sylvester [--output=results.json] [--quick]
"""

import argparse
import dataclasses
import importlib
import pathlib
import sys
import tempfile

import numpy as np

from benchmarks import measuring
from benchmarks.worker import open_worker

WIDTH = 528  # Channels of the hidden layers, as in the paper.
LAYOUTS = ("NCHW", "channels_last")
ADVICE = (
    "Install PyTorch with `pip install -r benchmarks/requirements.txt`, or give "
    "--torch_python=PATH, a Python that has PyTorch and NumPy."
)


@dataclasses.dataclass(frozen=True)
class Case:
    """A shape of the input, `[batch, size, size, channels]`, and the size of the kernels.

    `at_cap` makes the norm of every convolution of the network as large as it may get in training.
    """

    channels: int
    size: int
    batch: int = 32
    at_cap: bool = False

    def __str__(self):
        end = ", norms at the cap" if self.at_cap else ""
        return f"C={self.channels} {self.size}x{self.size} batch {self.batch}{end}"


CASES = tuple(
    Case(channels, size, at_cap=at_cap)
    for channels, size in ((12, 16), (24, 8), (48, 4))
    for at_cap in (False, True)
)
QUICK_CASES = CASES[4:]


@dataclasses.dataclass(frozen=True)
class Effort:
    """How long to measure: turns of each contestant, and the seconds of a turn."""

    rounds: int
    seconds: float


FULL = Effort(rounds=5, seconds=0.2)
QUICK = Effort(rounds=2, seconds=0.02)


def max_relative_error(values, expected) -> float:
    """Returns the largest `max |a - b| / max |b|`."""
    pairs = zip(map(np.asarray, values), expected, strict=True)
    return max(float(np.max(np.abs(a - b)) / np.max(np.abs(b))) for a, b in pairs)


class Match:
    """The contestants of a case: those of TensorFlow here, those of PyTorch in the worker.

    Args:
      case: a `Case`.
      effort: an `Effort`.
      backend: the module `benchmarks.sylvester_tensorflow`.
      worker: a `Worker` of `benchmarks.sylvester_torch`.
    """

    def __init__(self, case, effort, backend, worker):
        self._case, self._effort, self._worker = case, effort, worker
        arrays = backend.make_arrays(case.channels, case.size, case.batch, WIDTH, case.at_cap)
        expected = backend.reference(arrays)
        self._tensorflow = backend.contestants(arrays)
        self._outputs = {key: run() for key, run in self._tensorflow.items()}
        self._outputs |= self._torch_outputs(arrays, backend)
        self._errors = {
            key: max_relative_error(values[: len(expected[key[1]])], expected[key[1]])
            for key, values in self._outputs.items()
        }

    def _torch_outputs(self, arrays, backend):
        """Has the worker prepare the case; returns (contestant, operation) -> what it computes."""
        with tempfile.TemporaryDirectory() as folder:
            inputs, outputs = (str(pathlib.Path(folder, f"{n}.npz")) for n in ("case", "outputs"))
            np.savez(inputs, **arrays)
            self._worker.ask(
                prepare=inputs, outputs=outputs, terms=backend.TERMS, tolerance=backend.TOLERANCE
            )
            values = {}
            with np.load(outputs) as archive:
                for key, value in archive.items():
                    layout, operation, _ = key.split("|")
                    values.setdefault((f"torch {layout}", operation), []).append(value)
        return values

    def run(self, operation: str) -> list[dict]:
        """Measures an operation; returns a row for each contestant."""
        names = [name for name, found in self._outputs if found == operation]
        turns = {}
        for name in names:
            turns |= self._turns(name, operation)
        measured = measuring.in_rounds(turns, self._effort.rounds)
        best = measuring.fastest(measured)
        seconds = {name: measured[key] for name, key in best.items()}
        return [self._row(name, operation, seconds, best[name][1]) for name in names]

    def _turns(self, name, operation):
        """Returns the functions of `measuring.in_rounds` for a contestant, one a setting."""
        if not name.startswith("torch "):
            run = self._tensorflow[name, operation]
            return {(name, ""): measuring.turn(run, self._effort.seconds)}
        layout = name.removeprefix("torch ")
        seconds = self._effort.seconds
        return self._worker.turns(name, time=[layout, operation], seconds=seconds)

    def _row(self, name, operation, seconds, threads):
        is_inverse = operation == "inverse"
        return {
            "case": str(self._case),
            "operation": operation,
            "contestant": name,
            "ms": 1e3 * measuring.median(seconds[name]),
            "threads": threads or None,
            **{
                f"times {layout}": measuring.paired_ratio(seconds[f"torch {layout}"], seconds[name])
                for layout in LAYOUTS
            },
            "iterations": float(np.max(self._outputs[name, operation][-1])) if is_inverse else None,
            "max rel. error": self._errors[name, operation],
        }


def parse_flags() -> argparse.Namespace:
    """Returns the flags of the command line."""
    parser = measuring.flag_parser(__doc__.splitlines()[0])
    parser.add_argument(
        "--torch_python",
        default=sys.executable,
        help="Python of an environment with PyTorch and NumPy (default: this one)",
    )
    return parser.parse_args()


def main():
    """Measures, prints the tables, writes the JSON."""
    flags = parse_flags()
    measuring.set_up_tensorflow(flags.onednn)
    effort = QUICK if flags.quick else FULL
    rows = []
    with open_worker(flags.torch_python, "benchmarks.sylvester_torch", ADVICE) as worker:
        # Imports TensorFlow, which reads its settings once.
        backend = importlib.import_module("benchmarks.sylvester_tensorflow")
        environment = measuring.environment(["tensorflow", "numpy"]) | worker.environment
        settings = {"width": WIDTH, "terms": backend.TERMS, "tolerance": backend.TOLERANCE}
        settings |= dataclasses.asdict(effort)
        measuring.print_values(environment | settings)
        for case in QUICK_CASES if flags.quick else CASES:
            match = Match(case, effort, backend, worker)
            # The size of the kernels matters to the number of iterations alone.
            operations = backend.OPERATIONS[1:] if case.at_cap else backend.OPERATIONS
            found = [row for operation in operations for row in match.run(operation)]
            measuring.print_table(found)
            rows += found
    results = {"environment": environment, "settings": settings, "results": rows}
    measuring.write_results(flags.output, results)


if __name__ == "__main__":
    measuring.run(main)
