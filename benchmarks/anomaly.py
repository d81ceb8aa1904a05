"""How well the scores of a flow tell images of another kind: Fashion-MNIST against MNIST.

python -m benchmarks.anomaly --trained_on=fashion_mnist [--steps=400] [--output=PATH]

Trains `glow.mnist` on one of the two, scores the test images of both with `trainers.score`, and
ranks them, the more anomalous the higher, by

    bits            bits/dim of the model: what is unlikely is anomalous
    typicality      |bits - mean bits of training images|: so is what is too likely
    minus PNG       bits - bits/dim of the PNG file: what it finds unlikely though it is simple

The figure is the area under the ROC curve: the probability that an image of the other set ranks
above one of the set that the model knows; 0.5 is chance, below 0.5 the ranking is upside down.
The second is the one-sample test of Nalisnick et al. (2019), *Detecting Out-of-Distribution Inputs
to Deep Generative Models Using Typicality*, arXiv:1906.02994; the third the score of Serra et al.
(2020), *Input Complexity and Out-of-distribution Detection with Likelihood-based Generative
Models*, arXiv:1909.11480.
"""

import csv
import io
import pathlib
import subprocess
import sys

import numpy as np
from PIL import Image
from sklearn.metrics import roc_auc_score

from benchmarks import measuring

OTHER = {"mnist": "fashion_mnist", "fashion_mnist": "mnist"}


def call(program, *flags):
    """Runs a program of the trainers; raises an error if it does."""
    subprocess.run([sys.executable, "-m", f"trainers.{program}", *flags], check=True)


def bits_of_model(workdir, dataset, split):
    """Returns bits/dim of the images of a split, by `trainers.score`."""
    path = workdir / f"{dataset}_{split.split('[')[0]}.csv"
    flags = [f"--workdir={workdir / 'run'}", f"--dataset={dataset}", f"--split={split}"]
    call("score", *flags, f"--output={path}")
    with open(path, newline="") as file:
        return np.array([float(row["bits_per_dim"]) for row in csv.DictReader(file)])


def bits_of_png(dataset, split):
    """Returns bits/dim of the images as PNG files, the header and all."""
    from trainers.data import loading

    sizes = []
    for batch in loading.load(dataset, split, batch_size=500).dataset:
        for image in batch.numpy():
            file = io.BytesIO()
            Image.fromarray(image[..., 0]).save(file, "PNG", optimize=True)
            sizes.append(8 * file.tell() / image.size)
    return np.array(sizes)


def rank(known, other, training, known_png, other_png):
    """Returns the area under the ROC curve of each way to rank.

    Args:
      known: bits/dim of images of the set that the model was trained on.
      other: bits/dim of images of the other set.
      training: bits/dim of training images.
      known_png: bits/dim of the files of the first.
      other_png: bits/dim of the files of the second.
    """
    is_other = np.repeat([0, 1], [len(known), len(other)])
    bits = np.concatenate([known, other])
    png = np.concatenate([known_png, other_png])
    ways = {"bits": bits, "typicality": np.abs(bits - training.mean()), "minus PNG": bits - png}
    return {way: float(roc_auc_score(is_other, score)) for way, score in ways.items()}


def main():
    """Trains, scores, ranks, prints the table, writes the JSON."""
    parser = measuring.flag_parser(__doc__.splitlines()[0])
    parser.add_argument("--trained_on", choices=sorted(OTHER), default="fashion_mnist")
    parser.add_argument("--steps", type=int, default=400, help="steps of training, of 64 images")
    parser.add_argument("--count", type=int, default=2000, help="test images of each set")
    parser.add_argument(
        "--workdir", type=measuring.local_path, help="default: runs/anomaly_TRAINED_ON"
    )
    flags = parser.parse_args()
    measuring.set_up_tensorflow(flags.onednn)
    workdir = flags.workdir or pathlib.Path(f"runs/anomaly_{flags.trained_on}")
    steps, count = (2, 50) if flags.quick else (flags.steps, flags.count)
    trained_on, other = flags.trained_on, OTHER[flags.trained_on]
    if not (workdir / "run" / "preset").is_dir():
        recipe = ["--batch_size=64", f"--steps={steps}", "--num_validation=500"]
        call("train", "--model=glow.mnist", f"--dataset={trained_on}", *recipe,
             f"--workdir={workdir / 'run'}")  # fmt: skip
    test = f"test[:{count}]"
    training = bits_of_model(workdir, trained_on, f"train[:{count}]")
    bits = {name: bits_of_model(workdir, name, test) for name in (trained_on, other)}
    png = {name: bits_of_png(name, test) for name in (trained_on, other)}
    areas = rank(bits[trained_on], bits[other], training, png[trained_on], png[other])
    environment = measuring.environment(["tensorflow", "tensorflow-probability", "keras", "numpy"])
    measuring.print_values(environment)
    measuring.print_table(
        [
            {"images": name, "bits/dim": float(bits[name].mean()), "PNG": float(png[name].mean())}
            for name in (trained_on, other)
        ]
    )
    rows = [{"trained on": trained_on, "rank by": way, "AUROC": a} for way, a in areas.items()]
    measuring.print_table(rows)
    means = {name: float(values.mean()) for name, values in bits.items()}
    results = {"steps": steps, "images": count, "mean bits/dim": means, "results": rows}
    measuring.write_results(flags.output, {"environment": environment, **results})


if __name__ == "__main__":
    measuring.run(main)
