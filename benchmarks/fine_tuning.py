"""What a start from a preset is worth: Fashion-MNIST from MNIST, and from nothing.

python -m benchmarks.fine_tuning [--picture=PATH] [--output=PATH]

Trains a small `glow.mnist` on MNIST, once. For each seed, of the order of the data, the noise and
what is new, it then trains the same model on Fashion-MNIST twice, with one recipe: from the weights
of MNIST with `--init`, and from nothing. It draws the scores of the reports on the validation
split, and prints those of the test split. Runs that are in `--workdir` already are not done again.
"""

import json
import pathlib
import subprocess
import sys

import numpy as np

from benchmarks import measuring

MODEL = ("--model=glow.mnist", "--set=steps=[3,3]", "--set=widths=[32,32]")
FROM = {"MNIST": "tuned", "nothing": "scratch"}  # Folders.


def call(program, *flags):
    """Runs a program of the trainers; raises an error if it does."""
    subprocess.run([sys.executable, "-m", f"trainers.{program}", *flags], check=True)


def train(workdir, steps, report_every, *flags):
    """Trains, unless that is done."""
    if not (workdir / "preset").is_dir():
        sizes = [f"--steps={steps}", f"--report_every={report_every}", "--num_validation=1000"]
        call("train", f"--workdir={workdir}", *sizes, *flags)


def read_curve(workdir):
    """Returns the steps of the reports of a run, and their bits/dim on the validation split."""
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    reports = [json.loads(line) for line in lines]
    return [[report[key] for report in reports] for key in ("step", "val_bits_per_dim")]


def read_test(workdir, split):
    """Returns bits/dim on the test split, by `trainers.evaluate`."""
    if not (workdir / "metrics.json").is_file():
        call("evaluate", f"--workdir={workdir}", f"--split={split}")
    return json.loads((workdir / "metrics.json").read_text())["bits_per_dim"]


def steps_to_reach(steps, scores, level):
    """Returns the steps at which a curve, straight between reports, is down at a level, or None."""
    below = np.flatnonzero(np.asarray(scores) <= level)
    if not below.size:
        return None
    last = below[0]
    if last == 0:
        return float(steps[0])
    return float(np.interp(-level, [-scores[last - 1], -scores[last]], steps[last - 1 : last + 1]))


def draw(path, curves):
    """Draws the curves, those of one start in one colour.

    Args:
      path: the PNG to write.
      curves: for each start, what `read_curve` returned for each seed.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6, 4), layout="constrained")
    for number, (start, runs) in enumerate(curves.items()):
        for run, (steps, scores) in enumerate(runs):
            label = None if run else f"from {start}"
            axes.plot(steps, scores, color=f"C{number}", linewidth=1.2, label=label)
    axes.set(xlabel="step of Fashion-MNIST", ylabel="bits/dim, validation")
    axes.grid(alpha=0.3)
    axes.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100)
    pyplot.close(figure)


def main():
    """Trains, evaluates, draws, prints the table, writes the JSON."""
    parser = measuring.flag_parser(__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3, help="pairs of runs on Fashion-MNIST")
    parser.add_argument("--steps", type=int, default=600, help="of each of these, of 64 images")
    parser.add_argument("--first_steps", type=int, default=1200, help="on MNIST")
    parser.add_argument(
        "--workdir",
        type=measuring.local_path,
        default=pathlib.Path("runs/fine_tuning"),
        help="default: runs/fine_tuning",
    )
    parser.add_argument("--picture", type=measuring.local_path, help="default: in the work folder")
    flags = parser.parse_args()
    measuring.set_up_tensorflow(flags.onednn)
    first_steps, steps, every, split = flags.first_steps, flags.steps, flags.steps // 12, "test"
    if flags.quick:
        first_steps, steps, every, split = 2, 2, 1, "test[:50]"
    workdir, data = flags.workdir, "--dataset=fashion_mnist"
    train(workdir / "mnist", first_steps, first_steps // 2, *MODEL)
    starts = {"MNIST": (f"--init={workdir / 'mnist'}",), "nothing": MODEL}
    curves, tests = {start: [] for start in starts}, {start: [] for start in starts}
    for seed in range(flags.seeds):
        for start, given in starts.items():
            folder = workdir / f"{FROM[start]}_{seed}"
            train(folder, steps, every, data, f"--seed={seed}", *given)
            curves[start].append(read_curve(folder))
            tests[start].append(read_test(folder, split))
    draw(flags.picture or workdir / "curves.png", curves)
    rows = []
    for start in starts:
        scores = np.array([run[1] for run in curves[start]])
        pairs = zip(curves[start], curves["nothing"], strict=True)
        reached = [steps_to_reach(*run, other[1][-1]) for run, other in pairs]
        row = {"start": start}
        for report in (0, len(scores[0]) // 2 - 1):
            step = curves[start][0][0][report]
            row[f"validation, step {step}"] = float(scores[:, report].mean())
        test = np.array(tests[start])
        row |= {"test": float(test.mean()), "+-": float(test.std(ddof=1)) if len(test) > 1 else 0.0}
        known = [s for s in reached if s is not None]
        row["steps to the end of 'nothing'"] = float(np.mean(known)) if known else "more"
        rows.append(row)
    environment = measuring.environment(["tensorflow", "tensorflow-probability", "keras", "numpy"])
    measuring.print_values(environment)
    measuring.print_table(rows)
    settings = {"first_steps": first_steps, "steps": steps, "seeds": flags.seeds}
    results = {"settings": settings, "results": rows, "curves": curves, "tests": tests}
    measuring.write_results(flags.output, {"environment": environment, **results})


if __name__ == "__main__":
    measuring.run(main)
