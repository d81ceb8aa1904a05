"""What the benchmarks share: flags, timing in rounds, the machine, tables and JSON.

Imports neither TensorFlow nor PyTorch: `--onednn` has to be known before the first, and the process
that runs the second has no TensorFlow.
"""

import argparse
import importlib.metadata
import os
import pathlib
import platform
import sys
import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np

MOST_SPREAD = 2.0  # Of the rounds of a contestant: more, and its figure says nothing.
LEAST_ROUNDS = (
    3  # With fewer there is no spread to speak of: a quick run, whose figures are of no use.
)


def local_path(text: str) -> pathlib.Path:
    """Returns a path with the home directory for `~`: `files.local`, without TensorFlow."""
    return pathlib.Path(text).expanduser()


def run(main: Callable[[], object]):
    """Runs a benchmark as `trainers.program` does: a user's mistake is one message."""
    from trainers import program

    sys.exit(program.guard(main))


def plain_parser(description: str) -> argparse.ArgumentParser:
    """Returns a parser of the flag that `run` reads."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument(
        "--traceback", action="store_true", help="show where in the code an error comes from"
    )
    return parser


def flag_parser(description: str) -> argparse.ArgumentParser:
    """Returns a parser of the flags that benchmarks of speed have."""
    parser = plain_parser(description)
    parser.add_argument("--output", type=local_path, help="JSON file for the results")
    parser.add_argument(
        "--quick", action="store_true", help="a short run, to see that all works; no figures to use"
    )
    parser.add_argument(
        "--onednn",
        choices=["0", "1"],
        default="1",
        help="TF_ENABLE_ONEDNN_OPTS of this run, whatever the environment says (default: 1)",
    )
    return parser


def add_case_flags(parser: argparse.ArgumentParser, example: str):
    """Adds the flags of benchmarks of cases beside libraries of another environment.

    Args:
      parser: takes the flags.
      example: a regular expression for some of the cases.
    """
    parser.add_argument(
        "--peers_python",
        default=sys.executable,
        help="Python of an environment with the other libraries (default: this one)",
    )
    parser.add_argument(
        "--only", default="", help=f'a regular expression for cases, such as "{example}"'
    )


def set_up_tensorflow(onednn: str):
    """Sets what has to be set before TensorFlow is imported."""
    os.environ["TF_ENABLE_ONEDNN_OPTS"] = onednn
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")


def num_threads() -> int:
    """Returns the number of threads of every contestant: all cores that this process may use."""
    return len(os.sched_getaffinity(0))


def burst(
    function: Callable[[], object],
    seconds: float,
    clock: Callable[[], float] = time.perf_counter,
) -> float:
    """Returns the median seconds of a call, over at least 3 calls after one that does not count.

    Args:
      function: what to time.
      seconds: how long to go on.
      clock: what a call is timed by; `time.process_time` for seconds of processors, of all threads,
        which other work on the machine disturbs less.
    """
    function()
    times, end = [], time.perf_counter() + seconds
    while len(times) < 3 or time.perf_counter() < end:
        start = clock()
        function()
        times.append(clock() - start)
    return float(np.median(times))


def turn(
    function: Callable[[], object],
    seconds: float,
    clock: Callable[[], float] = time.perf_counter,
) -> Callable[[], float]:
    """Returns a contestant of `in_rounds`: a `burst` of a function."""
    return lambda: burst(function, seconds, clock)


def in_rounds(contestants: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, np.ndarray]:
    """Lets contestants run in turn, A B C A B C ..., so that drift of the machine hits all.

    Args:
      contestants: functions that run one `burst` and return its seconds.
      rounds: how often each has its turn.

    Returns:
      Seconds `[rounds]` of each. Ratios are to be taken within a round. A contestant that was more
      than `MOST_SPREAD` times as slow in one round as in another gets NaN for all but the fastest,
      which is no figure, and a line says so.
    """
    turns = [{name: run() for name, run in contestants.items()} for _ in range(rounds)]
    seconds = {name: np.array([turn[name] for turn in turns]) for name in contestants}
    for name, values in seconds.items():
        if rounds >= LEAST_ROUNDS and values.max() > MOST_SPREAD * values.min():
            print(
                f"No figure for {_words(name)}: it took {1e3 * values.min():.3g} to "
                f"{1e3 * values.max():.3g} ms. Run again with nothing beside it."
            )
            seconds[name] = np.where(values == values.min(), values, np.nan)
    return seconds


def _words(name):
    parts = name if isinstance(name, tuple) else (name,)
    return " ".join(str(part) for part in parts if part != "")


def fastest(seconds: Mapping[tuple, np.ndarray]) -> dict[str, tuple]:
    """Returns the best setting of each contestant.

    Args:
      seconds: what `in_rounds` returns, for contestants `(name, setting)`.

    Returns:
      Of each name the key `(name, setting)` with the least median. One without a figure counts by
      `MOST_SPREAD` times its fastest round: what is slower than that is not given out for the best.
    """
    names = dict.fromkeys(name for name, _ in seconds)
    times = {
        key: MOST_SPREAD * np.min(values, where=~np.isnan(values), initial=np.inf)
        if np.isnan(values).any()
        else median(values)
        for key, values in seconds.items()
    }
    return {n: min((key for key in seconds if key[0] == n), key=times.get) for n in names}


def thread_counts() -> list[int]:
    """Returns the numbers of threads that a library is tried with: one, and one for each core."""
    return sorted({1, num_threads()})


def median(values: np.ndarray) -> float:
    """Returns the median over the rounds."""
    return float(np.median(values))


def paired_ratio(numerator: np.ndarray, denominator: np.ndarray) -> float:
    """Returns the median over the rounds of the ratio within a round."""
    return median(numerator / denominator)


def environment(packages: Sequence[str]) -> dict[str, object]:
    """Returns what the results depend on: the machine, the versions, the settings.

    Args:
      packages: names of the distributions whose versions matter.
    """
    return {
        "cpu": cpu_model(),
        "threads": num_threads(),
        "platform": platform.platform(),
        "TF_ENABLE_ONEDNN_OPTS": os.environ["TF_ENABLE_ONEDNN_OPTS"],
        "python": platform.python_version(),
        **{package: importlib.metadata.version(package) for package in packages},
    }


def cpu_model() -> str:
    """Returns the model of the processor, with its speed where Linux tells."""
    path = pathlib.Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def print_values(values: Mapping[str, object]):
    """Prints names and values, one line each."""
    print("\n".join(f"{name}: {value}" for name, value in values.items()) + "\n", flush=True)


def print_table(rows: Sequence[Mapping[str, object]]):
    """Prints rows under the names of their columns; numbers to the right, three digits.

    Args:
      rows: dictionaries with the same keys.
    """
    lines = [list(rows[0])] + [[_cell(value) for value in row.values()] for row in rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    right = [not isinstance(value, str) for value in rows[0].values()]
    for line in lines:
        cells = zip(line, widths, right, strict=True)
        print("  ".join(c.rjust(w) if r else c.ljust(w) for c, w, r in cells).rstrip())
    print(flush=True)


def _cell(value: object) -> str:
    """Returns a value as a table shows it."""
    if value is None:
        return "-"
    if not isinstance(value, float) or not np.isfinite(value):
        return str(value)
    if value and abs(value) < 1e-3:
        return f"{value:.1e}"
    return f"{value:.{max(0, 2 - int(np.floor(np.log10(abs(value)))) if value else 0)}f}"


def write_results(path: pathlib.Path | None, results: Mapping[str, object]):
    """Writes the results as JSON, if a path is given."""
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        from zoo.storage import files

        path.write_text(files.to_json(results, indent=2) + "\n")
        print(f"Written: {path}")


def report(
    rows: Sequence[Mapping[str, object]],
    packages: Sequence[str],
    path: pathlib.Path | None,
    **settings: object,
):
    """Prints the machine and a table, and writes both as JSON, if a path is given.

    Args:
      rows: dictionaries with the same keys.
      packages: see `environment`.
      path: of the file, or `None`.
      **settings: what else is printed beside the machine.
    """
    known = environment(packages)
    print_values(known | settings)
    print_table(rows)
    write_results(path, {"environment": known, "results": rows})
