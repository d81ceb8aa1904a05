"""Bits/dim of the CIFAR-10 models against minutes, and against parameters.

python -m benchmarks.curves [--steps=1000] [--report_every=50] [--seeds=0,1] [--only=REGEX]
python -m benchmarks.curves --time
python -m benchmarks.curves --plot

Trains every `*.cifar10_small*` of the zoo with `trainers.train`, by its recipe but for a constant
rate and averaged weights, so that a run may end anywhere, and scores the end of the training split.
It may be stopped at any time: the same command goes on, and with more `--steps` the runs that there
are do. Then it measures a step of each model by itself, for which the cores have to be quiet.
Minutes are steps times that, whatever else the machine did in training. All is written to
`docs/results/cifar10/curves.csv`, with the CIFAR-10 presets of the package, which are scored on the
test split, as points; from that file come the picture and the table of `docs/cifar10.md`.

`--train`, `--time` and `--plot` do one of these; `--time` measures anew.
"""

import csv
import pathlib
import re
import shlex
import signal
import subprocess
import sys

import numpy as np

import zoo
from benchmarks import measuring
from trainers.runs import callbacks, environment
from zoo.storage import files, presets

PATTERN = "*.cifar10_small*"
SCHEDULE = ("--recipe=decay=1", "--ema=0.99")  # A rate that is constant.
RESULTS = pathlib.Path("docs/results/cifar10/curves.csv")
PICTURE = pathlib.Path("docs/images/cifar10_curves.png")
PAGE = pathlib.Path("docs/cifar10.md")
BEGIN, END = "<!-- table of benchmarks.curves -->", "<!-- end -->"
COLUMNS = (
    *("model", "seed", "step", "images", "split", "bits_per_dim"),
    *("parameters", "ms_per_step", "device"),
)
ROOM = 0.15  # Of the picture, in bits/dim, above the worst end and below the best.


def call(module, log, *arguments):
    """Runs a program, with what it says in a file; returns its exit code."""
    command = [sys.executable, "-m", module, "--traceback", *arguments]
    with open(log, "w") as file:
        return subprocess.run(command, stdout=file, stderr=file).returncode


def read_reports(run):
    """Returns step and score of the reports of a run."""
    lines = callbacks.read_lines(run / "metrics.jsonl")
    return [(line["step"], line.get("val_bits_per_dim", np.nan)) for line in lines]


def train(run, name, flags, *given):
    """Takes the steps of a run that are left; says how it ended.

    Args:
      run: its folder.
      name: of the model.
      flags: those of the command line.
      *given: flags of `trainers.train` for a run that begins.
    """
    reports, log = read_reports(run), run.parent / f"{run.name}.log"
    if not reports or reports[-1][0] < flags.steps:
        begun = (run / "config.json").is_file()
        how = ["--resume"] if begun else [f"--model={name}", "--dataset=cifar10", *given]
        how += [f"--steps={flags.steps}", f"--report_every={flags.report_every}"]
        run.parent.mkdir(parents=True, exist_ok=True)
        failed = call("trainers.train", log, f"--workdir={run}", *how)
        if failed and not re.search(r"NonFiniteError: In step \d+: ", log.read_text()):
            raise RuntimeError(f"The run {run} failed; its output is in {log}.")
        reports = read_reports(run)
        if failed:  # The other models go on.
            return f"stopped after {reports[-1][0] if reports else 0} steps, not finite: {log}"
    return f"{reports[-1][1]:.4f} bits/dim after {reports[-1][0]} steps"


def measure(path, name, rounds):
    """Measures a step of a model, and writes it as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    jit = environment.use_jit("auto", zoo.find(name).event_shape)
    given = (f"--model={name}", f"--jit={'on' if jit else 'off'}", "--draws=1", *SCHEDULE)
    partial, log = path.with_suffix(".partial"), path.with_suffix(".log")
    if call("trainers.benchmark", log, *given, f"--rounds={rounds}", f"--output={partial}"):
        raise RuntimeError(f"Measuring {name} failed; the output is in {log}.")
    found = files.read_json(partial)
    device = f"{found['machine']}, {measuring.cpu_model()}"
    files.write_json(path, found | {"device": device})
    partial.unlink()
    return f"{1e3 * found['models'][0]['step, s']:.4g} ms a step on {device}"


def rows_of_runs(folder):
    """Returns a row for each report of each run in a folder.

    Raises:
      ValueError: if a step of a model was not measured.
    """
    rows = []
    for run in sorted(path.parent for path in folder.glob("*-*/metrics.jsonl")):
        name, _, seed = run.name.rpartition("-")
        path = folder / "steps" / f"{name}.json"
        if not path.is_file():
            raise ValueError(
                f"A step of each model must be measured: python -m benchmarks.curves --time "
                f"--folder={folder}. Received: {folder}, where {path} is missing."
            )
        found = files.read_json(path)
        (step,) = found["models"]
        rows += [
            {
                "model": name,
                "seed": int(seed),
                "step": number,
                "images": number * step["batch size"],
                "split": "validation",
                "bits_per_dim": score,
                "parameters": step["parameters"],
                "ms_per_step": 1e3 * step["step, s"],
                "device": found["device"],
            }
            for number, score in read_reports(run)
            if np.isfinite(score)
        ]
    return rows


def rows_of_presets():
    """Returns a row for each CIFAR-10 preset of the package, of what its metadata say."""
    rows = []
    for name in zoo.list_models("*.cifar10*", pretrained=True):
        known = files.read_json(presets.folder(name) / "metadata.json")
        words = shlex.split(known["command"])
        sizes = [word.partition("=")[2] for word in words if word.startswith("--batch_size=")]
        size = int(sizes[0]) if sizes else zoo.find(name).recipe.batch_size
        rows.append(
            {
                "model": name,
                "step": known["steps"],
                "images": known["steps"] * size,
                "split": "test",
                "bits_per_dim": known["metric"]["value"],
                "parameters": known["parameters"],
                "ms_per_step": 1e3 * known["training_seconds"] / known["steps"],
                "device": known["machine"],
            }
        )
    return rows


def write_rows(path, rows):
    """Writes rows as CSV."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        for row in rows:
            writer.writerow({k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()})


def read_rows(path):
    """Returns the rows of a CSV file, numbers as such."""
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    if not rows or set(rows[0]) != set(COLUMNS):
        raise ValueError(f"{path} must have rows with the columns {', '.join(COLUMNS)}.")
    kinds = {"bits_per_dim": float, "ms_per_step": float}
    kinds |= {name: int for name in ("seed", "step", "images", "parameters")}
    return [
        {name: kinds.get(name, str)(text) if text else None for name, text in row.items()}
        for row in rows
    ]


class Curve:
    """The reports of a model, means over its seeds.

    Args:
      rows: those of the model on the validation split.
    """

    def __init__(self, rows):
        scores = {}
        for row in rows:
            scores.setdefault(row["step"], []).append(row["bits_per_dim"])
        seeds = len({row["seed"] for row in rows})
        # Where all seeds are.
        self.scores = {s: scores[s] for s in sorted(scores) if len(scores[s]) == seeds}
        self.steps = np.array(list(self.scores))
        self.means = np.array([np.mean(found) for found in self.scores.values()])
        self.ms, self.parameters = rows[-1]["ms_per_step"], rows[-1]["parameters"]
        self.device = rows[-1]["device"]
        self.minutes = self.steps * self.ms / 60_000

    def at(self, axis, end):
        """Returns mean and standard error of the last report up to a step or a minute, as text."""
        places = np.flatnonzero(axis <= end * (1 + 1e-9))
        if not places.size:
            return "-"
        found = self.scores[self.steps[places[-1]]]
        error = np.std(found, ddof=1) / len(found) ** 0.5 if len(found) > 1 else None
        return f"{np.mean(found):.3f}" + ("" if error is None else f" +- {error:.3f}")


def curves_and_points(rows):
    """Returns the `Curve` of each model, the best first; and the rows of presets."""
    groups = {}
    for row in rows:
        if row["split"] == "validation":
            groups.setdefault(row["model"], []).append(row)
    curves = {name: Curve(found) for name, found in groups.items()}
    curves = {name: curve for name, curve in curves.items() if curve.steps.size}
    curves = dict(sorted(curves.items(), key=lambda item: item[1].means[-1]))
    return curves, [row for row in rows if row["split"] == "test"]


def label(row):
    """Returns what a preset is called, with its device in short."""
    return f"{row['model']}, {row['device'].partition(',')[0].removeprefix('one ')}, test split"


def draw(path, rows):
    """Draws both panels, on a ground of their own, so that it suits light pages and dark ones."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    curves, points = curves_and_points(rows)
    style = {
        name: {
            "color": f"C{number % 10}",
            "linestyle": "-" if number < 10 else "--",
            "marker": "osD^v<>pPX"[(number + number // 10) % 10],
            "markersize": 5,
        }
        for number, name in enumerate(sorted(curves))
    }
    figure, axes = pyplot.subplots(
        1, 2, figsize=(10, 6.5), layout="constrained", sharey=True, facecolor="white"
    )
    for name, curve in curves.items():
        every = max(1, len(curve.steps) // 6)
        text = {"label": name, "markevery": every, "linewidth": 1.3}
        axes[0].plot(curve.minutes, curve.means, **style[name], **text)
        axes[1].plot([curve.parameters], curve.means[-1:], **style[name])
    for row in points:
        color = style[row["model"]]["color"] if row["model"] in style else "white"
        star = {"color": color, "marker": "*", "markersize": 14, "markeredgecolor": "black"}
        star |= {"linestyle": "none"}
        minutes = row["step"] * row["ms_per_step"] / 60_000
        axes[0].plot([minutes], [row["bits_per_dim"]], **star, label=label(row))
        axes[1].plot([row["parameters"]], [row["bits_per_dim"]], **star)
    ends = [curve.means[-1] for curve in curves.values()] + [row["bits_per_dim"] for row in points]
    devices = "; ".join(sorted({curve.device for curve in curves.values()}))
    axes[0].set(ylim=(min(ends) - ROOM, max(ends) + 3 * ROOM), ylabel="bits/dim")
    axes[0].set(xscale="log", xlabel="minutes of training", title=devices)
    axes[1].set(xscale="log", xlabel="million parameters", title="the end of each")
    axes[0].xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    sizes = [curve.parameters for curve in curves.values()] + [row["parameters"] for row in points]
    axes[1].set_xticks([0.5e6, 1e6, 2e6, 4e6, 8e6], ["0.5", "1", "2", "4", "8"])
    axes[1].set_xlim(min(sizes) / 1.4, max(sizes) * 1.4)
    axes[1].minorticks_off()
    for axis in axes:
        axis.title.set_fontsize("small")
        axis.grid(alpha=0.3)
    figure.legend(loc="outside lower center", ncols=3, fontsize="small")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def table(rows):
    """Returns the table of the page, in Markdown."""
    curves, points = curves_and_points(rows)
    budgets = {}  # Where all curves are.
    if curves:
        step = min(curve.steps[-1] for curve in curves.values())
        minutes = min(curve.minutes[-1] for curve in curves.values())
        budgets = {
            f"bits/dim after {step} steps": lambda curve: curve.at(curve.steps, step),
            f"after {minutes:.1f} minutes": lambda curve: curve.at(curve.minutes, minutes),
        }
    header = ["model", "parameters", "ms a step", *budgets, "bits/dim at its end", "which is after"]
    lines = [header, ["---"] * len(header)]
    for name, curve in curves.items():
        scores = [find(curve) for find in budgets.values()] + [curve.at(curve.steps, np.inf)]
        end = f"{curve.steps[-1]:,} steps, {curve.minutes[-1]:.1f} minutes"
        lines.append([f"`{name}`", f"{curve.parameters:,}", f"{curve.ms:.0f}", *scores, end])
    for row in points:
        scores = [""] * len(budgets) + [f"{row['bits_per_dim']:.3f}"]
        end = f"{row['step']:,} steps, {row['step'] * row['ms_per_step'] / 60_000:.1f} minutes, "
        end += f"{row['device']}; test split"
        sizes = [f"{row['parameters']:,}", f"{row['ms_per_step']:.0f}"]
        lines.append([f"`{row['model']}`", *sizes, *scores, end])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def write_table(path, text):
    """Puts a table into its place in a page.

    Raises:
      ValueError: if the page has no such place.
    """
    page = path.read_text()
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not end:
        raise ValueError(f"{path} must have the lines {BEGIN} and {END}.")
    path.write_text(f"{before}{begin}\n\n{text}\n\n{end}{after}")


def read_flags():
    """Returns the flags.

    Raises:
      ValueError: if no command can have such a value.
    """
    parser = measuring.plain_parser(__doc__.splitlines()[0])
    for name, what in (
        ("train", "take the steps that are left"),
        ("time", "measure a step of each model anew"),
        ("plot", "draw, from the file of results, with the presets of now"),
    ):
        parser.add_argument(f"--{name}", action="store_true", help=f"only {what}")
    parser.add_argument("--steps", type=int, default=1000, help="of each run (default: 1000)")
    parser.add_argument("--report_every", type=int, default=50, help="steps (default: 50)")
    parser.add_argument("--seeds", default="0", help="with commas between them (default: 0)")
    parser.add_argument("--only", default="", help='a regular expression: "^(glow|balanced)"')
    parser.add_argument("--num_validation", type=int, default=1024, help="images (default: 1024)")
    parser.add_argument("--rounds", type=int, default=15, help="steps to time (default: 15)")
    for name, path in (
        ("folder", pathlib.Path("runs/curves")),
        ("results", RESULTS),
        ("picture", PICTURE),
        ("page", PAGE),
    ):
        parser.add_argument(
            f"--{name}", type=measuring.local_path, default=path, help=f"default: {path}"
        )
    flags = parser.parse_args()
    if not re.fullmatch(r"\d+(,\d+)*", flags.seeds):
        raise ValueError(f"`--seeds` must be numbers. Received: --seeds={flags.seeds}.")
    if not 0 < flags.report_every <= flags.steps or flags.steps % flags.report_every:
        raise ValueError(
            "`--report_every` must divide `--steps`. "
            f"Received: --report_every={flags.report_every}, --steps={flags.steps}."
        )
    try:
        found = [name for name in zoo.list_models(PATTERN) if re.search(flags.only, name)]
    except re.error as error:
        raise ValueError(
            f"`--only` must be a regular expression: {error}. Received: --only={flags.only}."
        ) from None
    if not found:
        raise ValueError(
            f"`--only` must match a model of {PATTERN}. Received: --only={flags.only}."
        )
    flags.models = found
    return flags


def main():
    """Trains, measures, writes the rows, and draws."""
    flags = read_flags()
    every = not (flags.train or flags.time or flags.plot)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # Ends the run, too.
    if flags.train or every:
        for seed in map(int, flags.seeds.split(",")):
            for name in flags.models:
                given = (f"--seed={seed}", f"--num_validation={flags.num_validation}", *SCHEDULE)
                end = train(flags.folder / f"{name}-{seed}", name, flags, *given)
                print(f"{name}, seed {seed}: {end}", flush=True)
    if flags.time or every:
        begun = {p.parent.name.rpartition("-")[0] for p in flags.folder.glob("*-*/metrics.jsonl")}
        for name in sorted(begun):
            path = flags.folder / "steps" / f"{name}.json"
            if not path.is_file() or (flags.time and name in flags.models):
                print(f"{name}: {measure(path, name, flags.rounds)}", flush=True)
        write_rows(flags.results, rows_of_runs(flags.folder) + rows_of_presets())
    if flags.plot or every:
        rows = [row for row in read_rows(flags.results) if row["split"] == "validation"]
        rows += rows_of_presets()
        write_rows(flags.results, rows)
        draw(flags.picture, rows)
        write_table(flags.page, table(rows))
        print(f"Rows: {flags.results}; picture: {flags.picture}; page: {flags.page}")


if __name__ == "__main__":
    measuring.run(main)
