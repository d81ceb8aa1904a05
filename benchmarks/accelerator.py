"""Models on a device that JAX has and TensorFlow has not: right, fast, and trained there.

    python -m benchmarks.accelerator --folder=runs/accelerator --jax_python=PATH

writes programs with all that they need (`bundle`), runs them with JAX in another Python (`run`),
and prints tables (`show`). Each is a command of its own, too, so that the folder may travel to
where the device is, where neither this project's libraries nor TensorFlow are needed:

    python -m benchmarks.accelerator bundle --folder=runs/accelerator
    python benchmarks/accelerator_jax.py right --folder=runs/accelerator
    python -m benchmarks.accelerator_torch --folder=runs/accelerator
    python benchmarks/accelerator_jax.py fast --folder=runs/accelerator
    python -m benchmarks.accelerator show --folder=runs/accelerator

A training, whose result is an ordinary run:

    python -m benchmarks.accelerator write --model=glow.digits --batch_size=64 --folder=runs/program
    python benchmarks/accelerator_jax.py check --folder=runs/program
    python benchmarks/accelerator_jax.py train --folder=runs/program --seconds=60
    python -m benchmarks.accelerator read --folder=runs/program --workdir=runs/digits
    python -m trainers.evaluate --workdir=runs/digits
"""

import argparse
import importlib
import importlib.util
import json
import pathlib
import subprocess
import sys

from benchmarks import measuring

ROOT = pathlib.Path(__file__).parents[1]
JAX = "benchmarks/accelerator_jax.py"
NETWORKS = ("float32", "bfloat16")
PARTS = ("right", "fast", "train")
ACTIONS = ("bundle", "run", "show", "write", "read")
NEEDED = {"write": ["model"], "read": ["workdir"]}
TABLES = {
    "right": (
        *("model", "networks", "what", "precision", "off by", "of", "relative", "tolerance"),
        "right",
    ),
    "fast": (
        *("model", "networks", "variant", "batch", "compile s", "ms", "images/s", "memory MB"),
        *("TFLOP/s", "% of peak, data sheet", "% of peak, measured", "scatters"),
        *("times torch eager", "times torch compiled", "error"),
    ),
    "torch": ("case", "contestant", "ms", "relative", "error"),
}


def bundle(flags):
    """Writes the parts; returns whether all of them could be written."""
    backend = importlib.import_module("benchmarks.accelerator_bundle")
    whole = True
    for part in flags.parts:
        if part == "train":
            training = importlib.import_module("benchmarks.accelerator_training")
            flags.model = flags.model or ("glow.digits" if flags.quick else backend.TIMED[0])
            training.write(argparse.Namespace(**vars(flags) | {"folder": flags.folder / "train"}))
        else:
            options = flags.models, flags.networks, flags.quick
            whole &= backend.write(flags.folder, part, *options)
    return whole


def run(flags):
    """Runs the parts; returns whether all of them went well."""
    jax_python = find_python(flags.jax_python, "jax")
    if jax_python is None:
        raise ValueError(
            "--jax_python must be a Python with benchmarks/requirements-accelerator.txt: there is "
            f"no JAX in this one. Received: --jax_python={flags.jax_python}."
        )
    fine = True
    for part in flags.parts:
        if part == "fast":
            torch_python = find_python(flags.torch_python, "torch")
            command = ["-m", "benchmarks.accelerator_torch", f"--folder={flags.folder.absolute()}"]
            if torch_python is None:
                print("PyTorch is not measured: no --torch_python.", flush=True)
            else:
                command += [f"--burst={flags.burst}"]
                fine &= call(torch_python, *command)
        folder = flags.folder / "train" if part == "train" else flags.folder
        options = {
            "train": [f"--seconds={flags.seconds}"],
            "right": [f"--precision={flags.precision}"],
            "fast": [f"--precision={flags.precision}", f"--burst={flags.burst}"],
        }
        fine &= call(jax_python, JAX, part, f"--folder={folder.absolute()}", *options[part])
    return fine


def find_python(given, module):
    """Returns a Python that has a module: the one that is given, or this one if it has."""
    return given or (sys.executable if importlib.util.find_spec(module) else None)


def call(python, *arguments):
    """Runs a program from the root; returns whether it ended well."""
    return subprocess.run([python, *arguments], cwd=ROOT).returncode == 0


def show(flags):
    """Prints what the JSON files of a folder say, and writes it to `--output`."""
    results = {}
    for part, columns in TABLES.items():
        path = flags.folder / f"{part}.json"
        if path.exists():
            results[part] = json.loads(path.read_text())
            rows = results[part]["rows"]
            known = [column for column in columns if any(column in row for row in rows)]
            print(f"{part}: {results[part]['device']}")
            if rows:
                measuring.print_table([{c: row.get(c) for c in known} for row in rows])
    if not results:
        raise ValueError(f"--folder must have results. Received: --folder={flags.folder}.")
    measuring.write_results(flags.output, results)
    return True


def parse_flags():
    """Returns the flags of the command line."""
    parser = measuring.flag_parser(__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument(
        "action", nargs="?", choices=ACTIONS, help="one of the steps (bundle, run and show)"
    )
    parser.add_argument("--folder", type=measuring.local_path, required=True, help="of the bundle")
    parser.add_argument(
        "--parts",
        type=lambda text: text.split(","),
        default=["right", "fast"],
        help=f"some of {','.join(PARTS)} (right,fast)",
    )
    parser.add_argument("--models", default=".*", help="regular expression of names, all of it")
    parser.add_argument(
        "--networks",
        type=lambda text: text.split(","),
        default=list(NETWORKS),
        help=f"what networks compute in, some of {','.join(NETWORKS)} (both)",
    )
    parser.add_argument("--jax_python", help="Python with JAX (this one, if it has)")
    parser.add_argument("--torch_python", help="Python with PyTorch (this one, if it has)")
    parser.add_argument(
        "--precision",
        choices=["auto", "default", "highest", "both"],
        default="auto",
        help="of products in float32, where a GPU has several",
    )
    parser.add_argument("--burst", type=float, default=1.0, help="seconds of a timing")
    parser.add_argument("--seconds", type=float, default=60.0, help="of a training")
    parser.add_argument("--model", help="name of a model of images, for write and train")
    parser.add_argument("--batch_size", type=int, default=256, help="of a training")
    parser.add_argument("--num_validation", type=int, default=5000, help="images held out")
    parser.add_argument("--files", type=int, default=4, help="files of training images")
    parser.add_argument(
        "--expected", action=argparse.BooleanOptionalAction, default=True, help="for check"
    )
    parser.add_argument("--half", action="store_true", help="read writes weights in float16")
    parser.add_argument("--workdir", type=measuring.local_path, help="where read leaves preset/")
    flags = parser.parse_args()
    for name in NEEDED.get(flags.action, []):
        if getattr(flags, name) is None:
            parser.error(f"--{name} must be given for {flags.action}.")
    for name, known in (("parts", PARTS), ("networks", NETWORKS)):
        for word in getattr(flags, name):
            if word not in known:
                parser.error(f"--{name} must be some of {','.join(known)}. Received: {word}.")
    return flags


def main():
    """Does what the command line says; returns the exit status."""
    flags = parse_flags()
    measuring.set_up_tensorflow(flags.onednn)
    if flags.action in ("write", "read"):
        training = importlib.import_module("benchmarks.accelerator_training")
        getattr(training, flags.action)(flags)
        return 0
    fine = True
    for action in (bundle, run, show):
        if flags.action in (None, action.__name__):
            fine &= action(flags)
    return int(not fine)


if __name__ == "__main__":
    measuring.run(main)
