"""Speed of spline flows and affine flows against TFP, PyTorch and JAX libraries.

python -m benchmarks.splines [--peers_python=PATH] [--only=REGEX] [--output=results.json] [--quick]
"""

import contextlib
import dataclasses
import importlib
import re

import numpy as np

from benchmarks import measuring
from benchmarks.splines_serving import BOUND, KINDS, LAYERS, OPERATIONS
from benchmarks.worker import open_worker

PEERS = {
    "nflows": "benchmarks.splines_torch",
    "zuko": "benchmarks.splines_torch",
    "normflows": "benchmarks.splines_torch",
    "FlowJAX": "benchmarks.splines_jax",
    "distrax": "benchmarks.splines_jax",
}
ADVICE = (
    "Install benchmarks/requirements-splines.txt into an environment of its own and give "
    "--peers_python=PATH, its Python."
)


@dataclasses.dataclass(frozen=True)
class Case:
    """A flow of `LAYERS` layers, and a batch."""

    kind: str
    dimension: int
    batch: int
    width: int = 64
    bins: int = 8

    def data(self) -> np.ndarray:
        """Returns the batch, `[batch, dimension]`."""
        rng = np.random.default_rng(0)
        return rng.normal(size=[self.batch, self.dimension]).astype(np.float32)


SIZES = ((2, 512), (16, 512), (64, 512), (784, 128), (3072, 64))


@dataclasses.dataclass(frozen=True)
class Effort:
    """How long to measure: turns of each contestant, and seconds of a turn."""

    rounds: int
    seconds: float


FULL, QUICK = Effort(rounds=7, seconds=0.2), Effort(rounds=2, seconds=0.01)


def run_case(case, effort, backend, workers) -> list[dict]:
    """Measures a case; returns a row for each operation."""
    contestants = backend.Contestants(case)
    difference = None
    if case.kind != "spline activations":  # Those of the two libraries differ in parameters.
        difference = contestants.difference()
    operations = contestants.operations()
    request = dataclasses.asdict(case) | {"x": case.data().tolist()}
    known = {name: workers[PEERS[name]].ask(build=name, **request)["operations"] for name in PEERS}
    rows = []
    for operation in OPERATIONS:
        turns = {
            (name, mode): measuring.turn(run, effort.seconds)
            for (name, mode, found), run in operations.items()
            if found == operation
        }
        for name, module in PEERS.items():
            if operation in known[name]:
                request = {"time": operation, "library": name, "seconds": effort.seconds}
                turns |= _remote_turns(workers[module], name, request)
        seconds = measuring.in_rounds(turns, effort.rounds)
        rows.append(_row(case, operation, seconds, difference))
    return rows


def _remote_turns(worker, name, request):
    """Returns the turns of a library: PyTorch's with 1 thread and with all, JAX's as it likes."""
    if PEERS[name] == "benchmarks.splines_torch":
        return worker.turns(name, **request)
    return {(name, ""): lambda: worker.ask(**request)["seconds"]}


def _row(case, operation, seconds, difference):
    """Returns seconds and ratios, of each at its best: graph mode or XLA, one thread or all."""
    best = measuring.fastest(seconds)
    own = seconds[best["tfflows"]]
    return {
        "flow": case.kind,
        "operation": operation,
        "D": case.dimension,
        "batch": case.batch,
        "mode": best["tfflows"][1],
        "tfflows": measuring.median(own),
        "difference from TFP": difference,
        **{
            column: None if name not in best else value(seconds[best[name]])
            for name in ("TFP", *PEERS)
            for column, value in (
                (name, measuring.median),
                (f"{name} ratio", lambda peer: measuring.paired_ratio(peer, own)),
            )
        },
        "all": {" ".join(map(str, k)).strip(): measuring.median(v) for k, v in seconds.items()},
    }


def markdown(rows) -> str:
    """Returns the table: milliseconds of tfflows; of the others, and how many times as long."""
    names = ("TFP", *PEERS)
    lines = [("flow", "D", "batch", "tfflows, ms", *names)]
    lines += [("---",) * len(lines[0])]
    for row in rows:
        own = f"{1e3 * row['tfflows']:.3g} ({row['mode']})"
        others = [
            "-" if row[n] is None else f"{1e3 * row[n]:.3g} ({row[f'{n} ratio']:.1f}x)"
            for n in names
        ]
        lines.append((row["flow"], str(row["D"]), str(row["batch"]), own, *others))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def parse_flags():
    """Returns the flags of the command line."""
    parser = measuring.flag_parser(__doc__.splitlines()[0])
    measuring.add_case_flags(parser, "spline couplings 784")
    return parser.parse_args()


def main():
    """Measures, prints the tables, writes the JSON."""
    flags = parse_flags()
    measuring.set_up_tensorflow(flags.onednn)
    effort, sizes = (QUICK, SIZES[:1]) if flags.quick else (FULL, SIZES)
    with contextlib.ExitStack() as stack:
        workers = {
            module: stack.enter_context(open_worker(flags.peers_python, module, ADVICE))
            for module in dict.fromkeys(PEERS.values())
        }
        # Imports TensorFlow, which reads its settings once.
        backend = importlib.import_module("benchmarks.splines_tensorflow")
        backend.configure()
        environment = measuring.environment(["tensorflow", "tensorflow-probability", "keras"])
        for worker in workers.values():
            environment |= worker.environment
        settings = {"layers": LAYERS, "bound": BOUND, **dataclasses.asdict(effort)}
        measuring.print_values(environment | settings)
        rows = []
        for kind in KINDS:
            for size in sizes:
                if not re.search(flags.only, f"{kind} {size[0]}"):
                    continue
                rows += run_case(Case(kind, *size), effort, backend, workers)
                measuring.print_table(
                    [{k: v for k, v in r.items() if k != "all"} for r in rows[-2:]]
                )
    for operation in OPERATIONS:
        print(f"{operation}\n\n{markdown([r for r in rows if r['operation'] == operation])}\n")
    results = {"environment": environment, "settings": settings, "results": rows}
    measuring.write_results(flags.output, results)


if __name__ == "__main__":
    measuring.run(main)
