"""Speed of the convolution exponential against PyTorch and against the dense matrix exponential.

python -m benchmarks.exponential [--output=results.json] [--quick]
"""

import argparse
import dataclasses
import importlib
import pathlib
import sys
import tempfile
import time

import numpy as np

from benchmarks import measuring
from benchmarks.worker import open_worker

KERNEL_SIZE = 3
LARGEST_DENSE = 4096
OPERATIONS = ("forward", "forward + backward", "inverse")


@dataclasses.dataclass(frozen=True)
class Case:
    """A shape of the input, `[batch, size, size, channels]`."""

    channels: int
    size: int
    batch: int

    def __str__(self):
        return f"C={self.channels} {self.size}x{self.size} batch {self.batch}"

    @property
    def dimension(self) -> int:
        """Number of entries of an event."""
        return self.size**2 * self.channels

    @property
    def convolution_flop(self) -> int:
        """Floating-point operations of one convolution of the batch, borders counted in full."""
        return 2 * KERNEL_SIZE**2 * self.channels * self.dimension * self.batch


CASES = (
    Case(channels=12, size=16, batch=32),
    Case(channels=12, size=16, batch=256),
    Case(channels=24, size=8, batch=32),
    Case(channels=24, size=8, batch=256),
    Case(channels=48, size=16, batch=32),
)
QUICK_CASES = (CASES[2], CASES[4])


@dataclasses.dataclass(frozen=True)
class Effort:
    """How long to measure.

    Attributes:
      rounds: turns of each contestant.
      seconds: length of a turn.
      matmul_size: rows of the matrices whose product measures the machine's peak.
    """

    rounds: int
    seconds: float
    matmul_size: int


FULL = Effort(rounds=7, seconds=0.25, matmul_size=2048)
QUICK = Effort(rounds=2, seconds=0.02, matmul_size=512)


ADVICE = (
    "Install PyTorch with `pip install -r benchmarks/requirements.txt`, or give "
    "--torch_python=PATH, a Python that has PyTorch and NumPy."
)


def max_relative_error(values, expected) -> float:
    """Returns the largest `max |a - b| / max |b|`; values beyond those expected do not count."""
    pairs = zip(map(np.asarray, values), expected, strict=False)
    return max(float(np.max(np.abs(a - b)) / np.max(np.abs(b))) for a, b in pairs)


class Match:
    """The contestants of a case: those of TensorFlow here, those of PyTorch in the worker.

    Args:
      case: a `Case`.
      effort: an `Effort`.
      shards: parts of a batch that TensorFlow computes side by side.
      backend: the module `benchmarks.exponential_tensorflow`.
      worker: a `Worker` of `benchmarks.exponential_torch`.
    """

    def __init__(self, case, effort, shards, backend, worker):
        self.case, self._effort, self._backend, self._worker = case, effort, backend, worker
        self.arrays = backend.make_arrays(case.channels, case.size, case.batch)
        self.expected = backend.reference(**self.arrays)
        self._tensorflow = backend.contestants(**self.arrays, shards=shards)
        self._matmul = backend.matmul(effort.matmul_size)
        self._errors = self._tensorflow_errors() | self._torch_errors()

    def _tensorflow_errors(self):
        """Returns (contestant, operation) -> error against the reference."""
        errors = {}
        for (name, operation), run in self._tensorflow.items():
            # The layer's last gradient is another one, through the norm bound; the tests check it.
            expected = self.expected[operation][: 2 if "layer" in name else 3]
            errors[name, operation] = max_relative_error(run(), expected)
        return errors

    def _torch_errors(self):
        """Has the worker prepare the case; returns errors as above."""
        with tempfile.TemporaryDirectory() as folder:
            inputs, outputs = (str(pathlib.Path(folder, f"{n}.npz")) for n in ("case", "outputs"))
            np.savez(inputs, **self.arrays)
            self._worker.ask(
                prepare=inputs,
                outputs=outputs,
                terms=self._backend.TERMS,
                matmul_size=self._effort.matmul_size,
            )
            values = {}
            with np.load(outputs) as archive:
                for key, value in archive.items():
                    layout, operation, _ = key.split("|")
                    values.setdefault((layout, operation), []).append(value)
        return {
            (f"torch {layout}", operation): max_relative_error(value, self.expected[operation])
            for (layout, operation), value in values.items()
        }

    def run(self, operation: str) -> list[dict]:
        """Measures an operation; returns a row for each contestant."""
        names = [name for name, found in self._errors if found == operation]
        turns = {("matmul", ""): measuring.turn(self._matmul, self._effort.seconds)}
        for name in names:
            turns |= self._turns(name, operation)
        turns |= self._turns("torch matmul", "matmul")
        measured = measuring.in_rounds(turns, self._effort.rounds)
        best = measuring.fastest(measured)
        seconds = {name: measured[key] for name, key in best.items()}
        threads = {name: key[1] for name, key in best.items()}
        matmul_flop = 2 * self._effort.matmul_size**3
        peak = matmul_flop / np.minimum(seconds["matmul"], seconds["torch matmul"]) / 1e9
        return [self._row(name, operation, seconds, peak, threads[name]) for name in names]

    def _turns(self, name, operation):
        """Returns the functions of `measuring.in_rounds` for a contestant, one a setting."""
        if not name.startswith("torch "):
            run = self._tensorflow[name, operation]
            return {(name, ""): measuring.turn(run, self._effort.seconds)}
        layout = "" if operation == "matmul" else name.removeprefix("torch ")
        seconds = self._effort.seconds
        return self._worker.turns(name, time=[layout, operation], seconds=seconds)

    def _row(self, name, operation, all_seconds, peak, threads):
        """Returns the figures of a contestant; those of the layer without its floating-point rate.

        The layer's norm bound and log-det are floating-point operations too, which are not counted.
        """
        seconds = all_seconds[name]
        flop = None if "layer" in name else self._convolutions(name, operation)
        if flop is not None:
            flop *= self.case.convolution_flop / 1e9
        rate = None if flop is None else flop / seconds
        return {
            "case": str(self.case),
            "operation": operation,
            "contestant": name,
            "ms": 1e3 * measuring.median(seconds),
            "threads": threads or None,
            **{
                f"times {layout}": measuring.paired_ratio(all_seconds[f"torch {layout}"], seconds)
                for layout in ("NCHW", "channels_last")
            },
            "GFLOP": flop,
            "GFLOP/s": None if rate is None else measuring.median(rate),
            "% of peak": None if rate is None else measuring.paired_ratio(100 * rate, peak),
            "peak GFLOP/s": measuring.median(peak),
            "max rel. error": self._errors[name, operation],
        }

    def _convolutions(self, name, operation):
        """Returns how many convolutions a contestant needs, gradients of convolutions included."""
        terms = self._backend.TERMS
        if operation != "forward + backward":
            return terms
        return 2 * terms + (terms if name.startswith("torch") else self._backend.node_pairs())

    def run_dense(self) -> list[dict]:
        """Measures one call of the dense matrix exponential; returns a row for each contestant."""
        if self.case.dimension > LARGEST_DENSE:
            return [self._dense_row("-", None, None, f"skipped: N too large, over {LARGEST_DENSE}")]
        rows = []
        found = self._backend.dense_contestants(self.arrays["x"], self.arrays["kernel"])
        for name, run in found.items():
            start = time.perf_counter()
            y = run()
            seconds = time.perf_counter() - start
            error = max_relative_error([y], self.expected["forward"])
            rows.append(self._dense_row(name, seconds, error, ""))
        return rows

    def _dense_row(self, name, seconds, error, note):
        return {
            "case": str(self.case),
            "N": self.case.dimension,
            "contestant": name,
            "seconds": seconds,
            "max rel. error": error,
            "note": note,
        }


def run_cases(cases, effort, shards, backend, worker) -> tuple[list[dict], list[dict]]:
    """Measures all cases, printing a table after each; returns the rows, and those of `run_dense`.

    The dense matrix depends on the shape of an event only: it is measured at the smallest batch.
    """
    rows, dense = [], []
    smallest = min(case.batch for case in cases)
    for case in cases:
        match = Match(case, effort, shards, backend, worker)
        found = [row for operation in OPERATIONS for row in match.run(operation)]
        measuring.print_table(found)
        rows += found
        if case.batch == smallest:
            found = match.run_dense()
            measuring.print_table(found)
            dense += found
    return rows, dense


def parse_flags() -> argparse.Namespace:
    """Returns the flags of the command line."""
    parser = measuring.flag_parser(__doc__.splitlines()[0])
    parser.add_argument(
        "--torch_python",
        default=sys.executable,
        help="Python of an environment with PyTorch and NumPy (default: this one)",
    )
    parser.add_argument(
        "--shards",
        type=int,
        default=measuring.num_threads(),
        help="parts of a batch that TensorFlow computes side by side, each on one thread (default: "
        "one a core); 1: one part on all threads",
    )
    return parser.parse_args()


def main():
    """Measures, prints the tables, writes the JSON."""
    flags = parse_flags()
    measuring.set_up_tensorflow(flags.onednn)
    effort = QUICK if flags.quick else FULL
    with open_worker(flags.torch_python, "benchmarks.exponential_torch", ADVICE) as worker:
        # Imports TensorFlow, which reads its settings once.
        backend = importlib.import_module("benchmarks.exponential_tensorflow")
        backend.configure(flags.shards)
        environment = measuring.environment(["tensorflow", "numpy", "scipy"]) | worker.environment
        settings = {
            "max_norm": backend.MAX_NORM,
            "terms": backend.TERMS,
            "shards": flags.shards,
            "filter gradients a backward pass": backend.node_pairs(),
            **dataclasses.asdict(effort),
        }
        measuring.print_values(environment | settings)
        cases = QUICK_CASES if flags.quick else CASES
        rows, dense = run_cases(cases, effort, flags.shards, backend, worker)
    results = {"environment": environment, "settings": settings, "results": rows, "dense": dense}
    measuring.write_results(flags.output, results)


if __name__ == "__main__":
    measuring.run(main)
