"""Images a second of training on one and two replicas, and of the data alone.

python -m benchmarks.scaling [--steps=100] [--output=results.json] [--quick]

Runs `trainers.train` on CIFAR-10, once on each arrangement of the cores, in turns: one device on
one core; one device with a shard on each of two; two replicas of `MirroredStrategy` on two logical
CPUs of a process; two processes of `MultiWorkerMirroredStrategy` with a core each. The global batch
is the same. A figure is the median, over the rounds, of what the last report of a run says.
"""

import json
import os
import socket
import subprocess
import sys
import tempfile
import time

import numpy as np

from benchmarks import measuring

BATCH_SIZE = 64


def command(workdir, steps, *flags):
    """Returns the command of a run."""
    return [
        sys.executable,
        "-m",
        "trainers.train",
        "--model=convexp_glow.cifar10_small",
        "--dataset=cifar10",
        f"--batch_size={BATCH_SIZE}",
        f"--steps={2 * steps}",
        f"--report_every={steps}",  # The first report has the compilation in it.
        "--num_validation=64",
        f"--workdir={workdir}",
        *flags,
    ]


def start(arguments, core=None, **variables):
    """Starts a process, on one core if it is given."""
    process = subprocess.Popen(
        arguments, env=os.environ | variables, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    if core is not None:
        os.sched_setaffinity(process.pid, {core})
    return process


def start_one(workdir, steps, cores):
    """One device on one core."""
    return [start(command(workdir, steps, "--shards=1"), cores[0])]


def start_shards(workdir, steps, cores):
    """One device, a shard on each of two cores."""
    return [start(command(workdir, steps, f"--shards={len(cores)}"))]


def start_mirrored(workdir, steps, cores):
    """Two replicas in one process."""
    flags = ("--strategy=mirrored", f"--cpu_devices={len(cores)}", "--shards=1")
    return [start(command(workdir, steps, *flags))]


def start_workers(workdir, steps, cores):
    """Two processes, each with a core."""
    with socket.socket() as first, socket.socket() as second:
        for each in (first, second):
            each.bind(("localhost", 0))
        workers = [f"localhost:{each.getsockname()[1]}" for each in (first, second)]
    flags, found = ("--strategy=multi_worker", "--shards=1"), []
    for index in range(2):
        task = {"cluster": {"worker": workers}, "task": {"type": "worker", "index": index}}
        arguments = command(workdir, steps, *flags)
        found.append(start(arguments, cores[index], TF_CONFIG=json.dumps(task)))
    return found


WAYS = {
    "one device, one core": start_one,
    "one device, two cores": start_shards,
    "mirrored, two logical CPUs": start_mirrored,
    "multi_worker, two processes": start_workers,
}


def images_a_second(begin, steps, cores):
    """Returns what the last report of a run says."""
    with tempfile.TemporaryDirectory() as folder:
        workdir = os.path.join(folder, "run")
        codes = [process.wait() for process in begin(workdir, steps, cores)]
        if any(codes):
            raise RuntimeError(f"A run failed: exit codes {codes}.")
        with open(os.path.join(workdir, "metrics.jsonl")) as file:
            return json.loads(file.readlines()[-1])["images_per_second"]


def data_alone(seconds):
    """Returns images a second of the pipeline, shuffled and mirrored, with nobody to use them."""
    from trainers.data import loading

    options = {"batch_size": BATCH_SIZE, "shuffle_seed": 0, "repeat": True, "flip": True}
    batches = iter(loading.load("cifar10", "train", **options).dataset)
    next(batches)
    start, count = time.perf_counter(), 0
    while time.perf_counter() < start + seconds:
        count += len(next(batches))
    return count / (time.perf_counter() - start)


def main():
    """Measures in rounds, prints the table, writes the JSON."""
    parser = measuring.flag_parser(__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=100, help="steps a report; two reports a run")
    parser.add_argument("--rounds", type=int, default=3)
    flags = parser.parse_args()
    steps, rounds = (2, 1) if flags.quick else (flags.steps, flags.rounds)
    cores = sorted(os.sched_getaffinity(0))[:2]
    if len(cores) < 2:
        raise SystemExit(f"Two cores are needed. Received: {len(cores)}.")
    measuring.set_up_tensorflow(flags.onednn)
    environment = measuring.environment(["tensorflow", "keras"])
    measuring.print_values(environment)
    found = {name: [] for name in WAYS}
    for _ in range(rounds):
        for name, begin in WAYS.items():
            found[name].append(images_a_second(begin, steps, cores))
    base = np.median(found["one device, one core"])
    rows = [
        {
            "how": name,
            "images/s": float(np.median(values)),
            "times one core": float(np.median(values) / base),
        }
        for name, values in found.items()
    ]
    alone = data_alone(0.2 if flags.quick else 5)
    rows.append({"how": "data alone", "images/s": alone, "times one core": alone / base})
    measuring.print_table(rows)
    measuring.write_results(flags.output, {"environment": environment, "results": rows})


if __name__ == "__main__":
    measuring.run(main)
