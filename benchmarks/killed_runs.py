"""Kills runs at random moments, resumes them, and compares their end with that of an unbroken run.

    python -m benchmarks.killed_runs --runs=4 --kills=5
    python -m benchmarks.killed_runs --model=maf.rings --set=num_blocks=2 --set=width=8

Each run trains a model of the zoo on its data, by default a small Glow on scikit-learn's digits,
with a report and a backup every two steps.
It is killed by SIGKILL `--kills` times: at a random moment of its start-up or after it, and once
when its last backup is there but not yet the preset; each time it is started again with --resume
and nothing else. In the end

- the weights of the preset, and the score of every report, are those of the unbroken run, bit by
  bit: on one machine, in float32 on a CPU, everything follows from seed and number of the step;
- after each kill, the last backup is whole, and no older than the one before the kill.

The exit code is 0 if all of it holds. A run is whatever `start` returns: for one with several
processes, return them all, and `kill` then picks a victim among them.
"""

import json
import pathlib
import random
import shutil
import subprocess
import sys
import tempfile
import time

from benchmarks import measuring

STEPS = 60
MODEL = "glow.digits"
SMALL = ("steps=[1,1]", "widths=[4,4]")
FLAGS = (
    "--batch_size=16",
    f"--steps={STEPS}",
    "--report_every=2",
    "--num_validation=32",
    "--ema=0.9",
    "--seed=3",
)


def start(workdir, flags):
    """Starts a run; returns its processes."""
    command = [sys.executable, "-m", "trainers.train", f"--workdir={workdir}", *flags]
    with open(f"{workdir}.log", "a") as log:
        return [subprocess.Popen(command, stdout=log, stderr=log)]


def kill(processes, rng):
    """Kills one process of a run, as a lack of memory or of power would."""
    rng.choice(processes).kill()
    for process in processes:
        process.wait()


def backups(workdir):
    """Returns the backups of a run, the newest first. Imports TensorFlow."""
    from trainers.runs import backup

    return [(backup.step_of(p), backup.is_whole(p)) for p in backup.paths(workdir / "backup")]


def wait_for(processes, condition, seconds=3600):
    """Waits until a condition holds or the run has ended; returns whether the run goes on."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if any(process.poll() is not None for process in processes):
            return False
        if condition():
            return True
        time.sleep(0.005)
    raise TimeoutError(f"Nothing happened in {seconds} seconds.")


def break_run(workdir, flags, kills, rng):
    """Makes a run with `kills` kills; returns what went wrong, in lines, and when it was killed."""
    problems, moments, new = [], [], flags
    for number in range(kills):
        before = backups(workdir)
        processes = start(workdir, flags)
        if number == kills - 1:
            goes_on = wait_for(processes, lambda: _step(workdir) == STEPS)
        elif rng.random() < 0.2:
            time.sleep(rng.uniform(0, 10))
            goes_on = True
        else:
            goal = min(max(_step(workdir), 0) + 2 * rng.randint(1, 6), STEPS)
            goes_on = wait_for(processes, lambda goal=goal: _step(workdir) >= goal)
            time.sleep(rng.uniform(0, 0.5))
        if not goes_on:
            problems.append(f"{workdir}: a run ended by itself, see {workdir}.log")
            break
        kill(processes, rng)
        after = backups(workdir)
        moments.append(after[0][0] if after else 0)
        print(f"{workdir.name}: killed, last backup at step {moments[-1]}", flush=True)
        if not all(whole for _, whole in after):
            problems.append(f"{workdir}: a backup is damaged: {after}")
        if before and (not after or after[0] < before[0]):
            problems.append(f"{workdir}: a backup was lost: {before}, then {after}")
        flags = ("--resume",) if (workdir / "config.json").exists() else new
    for process in start(workdir, flags):
        if process.wait():
            problems.append(f"{workdir}: the run did not end, see {workdir}.log")
    return problems, moments


def _step(workdir):
    names = [path.name for path in (workdir / "backup").glob("step_*")]
    return max((int(name[5:12]) for name in names), default=-1)


def compare(workdir, unbroken):
    """Returns in what a run that was broken differs from an unbroken one, in lines."""
    import h5py
    import numpy as np

    from trainers.runs import callbacks

    problems = []
    lines = [callbacks.read_lines(w / "metrics.jsonl") for w in (workdir, unbroken)]
    scores = [
        [{k: v for k, v in ln.items() if not k.endswith(("seconds", "_per_second"))} for ln in p]
        for p in lines
    ]
    if scores[0] != scores[1]:
        differ = [a for a, b in zip(*scores, strict=False) if a != b]
        problems.append(f"{workdir}: {len(differ)} reports differ, {differ[:1]} the first")
    if scores[0][-1]["step"] != STEPS:
        problems.append(f"{workdir}: ended in step {scores[0][-1]['step']}, not {STEPS}")
    metadata = json.loads((workdir / "preset" / "metadata.json").read_text())
    if metadata["steps"] != STEPS:
        problems.append(f"{workdir}: the preset says {metadata['steps']} steps, not {STEPS}")
    for end in ("backup", "preset"):
        files = [max((w / end).glob("*.weights.h5")) for w in (workdir, unbroken)]
        with h5py.File(files[0]) as one, h5py.File(files[1]) as other:
            arrays = [{}, {}]
            for store, found in zip((one, other), arrays, strict=True):
                store.visititems(
                    lambda name, item, found=found: (
                        found.update({name: item[()]}) if isinstance(item, h5py.Dataset) else None
                    )
                )
        for name in arrays[0].keys() | arrays[1].keys():
            if not all(name in part for part in arrays) or not np.array_equal(
                arrays[0][name], arrays[1][name]
            ):
                problems.append(f"{workdir}: {name} of {end} differs")
    return problems


def main():
    """Makes the runs and prints what was found."""
    parser = measuring.plain_parser(__doc__.splitlines()[0])
    parser.add_argument("--model", default=MODEL, help="name of the zoo")
    parser.add_argument("--set", action="append", metavar="NAME=VALUE", help="of its arguments")
    parser.add_argument("--runs", type=int, default=4)
    parser.add_argument("--kills", type=int, default=5, help="kills of each run")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--folder", type=measuring.local_path, help="keeps the runs there")
    args = parser.parse_args()
    changes = args.set or (SMALL if args.model == MODEL else ())
    flags = (f"--model={args.model}", *(f"--set={change}" for change in changes), *FLAGS)
    folder = args.folder or pathlib.Path(tempfile.mkdtemp(prefix="killed_runs."))
    folder.mkdir(parents=True, exist_ok=True)
    rng, problems, moments = random.Random(args.seed), [], []
    start_time = time.monotonic()
    unbroken = folder / "unbroken"
    if any(process.wait() for process in start(unbroken, flags)):
        raise RuntimeError(f"The unbroken run failed: see {unbroken}.log.")
    for number in range(args.runs):
        workdir = folder / f"broken{number}"
        found, when = break_run(workdir, flags, args.kills, rng)
        problems += found or compare(workdir, unbroken)
        moments += when
    print(
        f"{args.model}: {len(moments)} kills of {args.runs} runs, after the steps {moments}, in "
        f"{time.monotonic() - start_time:.0f} s: "
        + ("; ".join(problems) or "every run ended as the unbroken one, bit by bit")
    )
    if not args.folder and not problems:
        shutil.rmtree(folder)
    return bool(problems)


if __name__ == "__main__":
    measuring.run(main)
