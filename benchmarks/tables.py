"""Flows of the rows of tables against zuko and nflows: nats on test, and seconds a step.

python -m benchmarks.tables [--peers_python=PATH] [--patches=PATH.npz] [--output=results.json]

The same architecture, steps, batches, optimiser and splits for all. Each seed has splits of its own
and is one training of each; its figure is the score on test where that on validation was best.
"""

import importlib
import pathlib
import re
import tempfile

import numpy as np

from benchmarks import measuring, tables_data
from benchmarks.worker import open_worker

PEERS = ("zuko", "nflows")
ADVICE = (
    "Install benchmarks/requirements-splines.txt into an environment of its own and give "
    "--peers_python=PATH, its Python."
)
BATCH = 128


def measure_speed(own, worker, effort, peers) -> dict:
    """Returns ms of a step and the ratios to tfflows, by turns; PyTorch with the best threads."""
    turns = {("tfflows", 0): lambda: own.time(effort["timed"])}
    for name in peers:
        turns |= worker.turns(name, library=name, time=effort["timed"])
    for run in turns.values():
        run()  # Compiles, or warms up.
    seconds = measuring.in_rounds(turns, effort["rounds"])
    found = {"tfflows, ms": 1e3 * measuring.median(seconds["tfflows", 0])}
    best = measuring.fastest(seconds)
    for name in peers:
        _, threads = best[name]
        found |= {
            f"{name}, ms": 1e3 * measuring.median(seconds[name, threads]),
            f"{name} threads": threads,
            f"{name} times": measuring.paired_ratio(seconds[name, threads], seconds["tfflows", 0]),
        }
    return found


def measure_scores(own, worker, effort, report, peers) -> dict:
    """Returns nats on test of all seeds, their means, and the differences within a seed."""
    scores = {name: [] for name in ("tfflows", *peers)}
    for seed in range(1, effort["seeds"] + 1):
        request = {"steps": effort["steps"], "report": report}
        scores["tfflows"].append(own.train(seed, **request)["test"])
        for name in peers:
            answer = worker.ask(library=name, train=seed, threads=1, **request)
            scores[name].append(answer["test"])
    found = {}
    for name, values in scores.items():
        found |= {f"{name}, nats": float(np.mean(values)), f"{name} error": _error(values)}
    for name in peers:
        worse = np.subtract(scores[name], scores["tfflows"])
        found |= {f"{name} worse by": float(np.mean(worse)), f"{name} by error": _error(worse)}
    return found | {"all": scores}


def _error(values):
    """Returns the standard error of a mean."""
    return float(np.std(values, ddof=1) / np.sqrt(len(values))) if len(values) > 1 else 0.0


def markdown(rows) -> str:
    """Returns the table for the page."""
    lines = [("flow", "table", "columns", *(f"{n}, nats" for n in ("tfflows", *PEERS)))]
    lines[0] += ("tfflows, ms", *PEERS)
    lines += [("---",) * len(lines[0])]
    for row in rows:
        there = [n for n in PEERS if f"{n}, nats" in row]
        nats = [f"{row[f'{n}, nats']:.2f} ± {row[f'{n} error']:.2f}" for n in ("tfflows", *there)]
        times = [f"{row[f'{n}, ms']:.3g} ({row[f'{n} times']:.1f}x)" for n in there]
        nats, times = (known + [""] * (len(PEERS) - len(there)) for known in (nats, times))
        own = f"{row['tfflows, ms']:.3g}"
        lines.append((row["flow"], row["table"], str(row["columns"]), *nats, own, *times))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def load_tables(flags) -> dict[str, np.ndarray]:
    """Returns the rows of each table."""
    names = ("wine",) if flags.quick else ("wine", "breast_cancer", "digits")
    found = {name: tables_data.bundled(name) for name in names}
    if flags.patches:
        found["patches"] = tables_data.patches(flags.patches)
    return found


def parse_flags():
    """Returns the flags of the command line."""
    parser = measuring.flag_parser(__doc__.splitlines()[0])
    measuring.add_case_flags(parser, "couplings wine")
    parser.add_argument(
        "--patches",
        type=measuring.local_path,
        help="a .npz file of photographs, of whose patches one more table is made",
    )
    parser.add_argument("--seeds", type=int, default=5, help="trainings of each (default: 5)")
    parser.add_argument("--steps", type=int, default=150, help="of a training (default: 150)")
    return parser.parse_args()


def main():
    """Measures, prints the table, writes the JSON."""
    flags = parse_flags()
    measuring.set_up_tensorflow(flags.onednn)
    effort = {"seeds": flags.seeds, "steps": flags.steps, "timed": 20, "rounds": 5}
    effort["reports"] = {"few rows": 5, "many": 25}  # Steps between them.
    if flags.quick:
        effort |= {"seeds": 2, "steps": 4, "timed": 2, "rounds": 2}
        effort["reports"] = {"few rows": 2, "many": 2}
    rows = []
    with (
        open_worker(flags.peers_python, "benchmarks.tables_torch", ADVICE) as worker,
        tempfile.TemporaryDirectory() as folder,
    ):
        backend = importlib.import_module("benchmarks.tables_tensorflow")
        environment = measuring.environment(["tensorflow", "tensorflow-probability", "keras"])
        environment |= worker.environment
        measuring.print_values(environment | effort | {"batch": BATCH})
        for table, found in load_tables(flags).items():
            path = pathlib.Path(folder, f"{table}.npy")
            np.save(path, found)
            report = effort["reports"]["few rows" if len(found) < 1000 else "many"]
            for kind in tables_data.KINDS:
                if not re.search(flags.only, f"{kind} {table}"):
                    continue
                peers = () if kind in tables_data.OWN_KINDS else PEERS
                own, request = backend.Contestant(kind, found, BATCH), {"kind": kind}
                request |= {"data": str(path), "batch": BATCH}
                sizes = {name: worker.ask(build=name, **request)["parameters"] for name in peers}
                row = {"flow": kind, "table": table, "columns": found.shape[1]}
                row |= {"rows": len(found), "parameters": own.parameters}
                row |= {f"{name} parameters": size for name, size in sizes.items()}
                row |= measure_scores(own, worker, effort, report, peers)
                row |= measure_speed(own, worker, effort, peers)
                rows.append(row)
                measuring.print_values({k: v for k, v in row.items() if k != "all"})
    print(markdown(rows))
    results = {"environment": environment, "settings": {**effort, "batch": BATCH}, "results": rows}
    measuring.write_results(flags.output, results)


if __name__ == "__main__":
    measuring.run(main)
