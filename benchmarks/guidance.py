"""What guidance does to samples and to likelihoods, by a model that classifies.

python -m benchmarks.guidance [--model=glow.digits_by_class] [--workdir=runs/guidance]

Trains the model with a tenth of its images given no label, unless that is done, draws samples of
each class with several weights of `tfflows.guide`, and prints which part Bayes' rule of a judge,
the preset of the same name, puts into their class; and the bits/dim of test images by the guided
flow, which is a density of its own.
"""

import math
import pathlib
import subprocess
import sys

import numpy as np

from benchmarks import measuring

WEIGHTS = (0.0, 0.5, 1.0, 2.0, 4.0)


def classify(judge, x):
    """Returns the classes of images by Bayes' rule, with classes of the same frequency."""
    numbers = range(len(judge.classes))
    scores = [judge.given(np.full(len(x), n)).log_prob(x, seed=[0, 1]) for n in numbers]
    return np.argmax(scores, axis=0)


def measure(model, judge, weight, count, test):
    """Returns the part of samples that are put into their class, and bits/dim of test images."""
    labels = np.repeat(np.arange(len(model.classes)), count)
    samples = model.given(labels, weight).distribution.sample(seed=[1, 2])
    images, of_images = test
    nats = -np.mean(model.given(of_images, weight).log_prob(images, seed=[0, 1]))
    return {
        "weight": weight,
        "recognised": float(np.mean(classify(judge, samples) == labels)),
        "bits/dim of test images": float(nats / math.log(2) / np.prod(model.event_shape)),
    }


def main():
    """Trains, draws, prints the table, writes the JSON."""
    parser = measuring.flag_parser(__doc__.splitlines()[0])
    parser.add_argument("--model", default="glow.digits_by_class", help="one with a preset")
    parser.add_argument("--count", type=int, default=100, help="samples of each class")
    parser.add_argument("--workdir", type=measuring.local_path, default="runs/guidance")
    flags = parser.parse_args()
    measuring.set_up_tensorflow(flags.onednn)
    import zoo
    from trainers.data import loading

    workdir, steps = pathlib.Path(flags.workdir), ["--steps=2"] if flags.quick else []
    if not (workdir / "preset").is_dir():
        train = ["-m", "trainers.train", f"--model={flags.model}", f"--workdir={workdir}"]
        given = ["--recipe=context_dropout=0.1", "--keep=best", *steps]
        subprocess.run([sys.executable, *train, *given], check=True)
    model, judge = zoo.open_trained(workdir / "preset"), zoo.open_trained(flags.model)
    data = loading.load(model.dataset, "test", batch_size=10_000, condition="label")
    test, count = next(iter(data.dataset)), 1 if flags.quick else flags.count
    rows = [measure(model, judge, weight, count, test) for weight in WEIGHTS]
    environment = measuring.environment(["tensorflow", "tensorflow-probability", "keras", "numpy"])
    measuring.print_values(environment)
    measuring.print_table(rows)
    measuring.write_results(flags.output, {"environment": environment, "results": rows})


if __name__ == "__main__":
    measuring.run(main)
