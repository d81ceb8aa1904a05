"""Readings of equation 6 of *Jacobian Determinant of Normalizing Flows*, in bits/dim.

python -m benchmarks.quasi_linear [--images=cifar10] [--count=2000] [--output=results.json]

The paper prints 2.01 for CIFAR-10 and 1.75 for ImageNet at 32x32 without saying how the singular
matrix `x x^T` was dealt with. This prints what some readings give; integer images on the scale of
their values 0 .. 255, so that no constant has to be added.
"""

import math

import numpy as np

from benchmarks import measuring
from tfflows.analysis import bits_per_dim, quasi_linear_optimum
from trainers.data import loading

UNIFORM = 1 / 12  # Variance of uniform dequantisation noise.


def gaussian_bits(blocks: np.ndarray, noise_variance: float, centered: bool) -> float:
    """Returns bits/dim of Gaussians fitted to each image by itself.

    Args:
      blocks: `[images, samples, d]`, what is taken for samples inside an image.
      noise_variance: added to every eigenvalue.
      centered: whether the mean over the samples of an image is taken off.
    """
    size = blocks.shape[-1]
    if centered:
        blocks = blocks - blocks.mean(axis=1, keepdims=True)
    second_moments = np.einsum("nsi,nsj->nij", blocks, blocks) / blocks.shape[1]
    values = np.linalg.eigvalsh(second_moments).clip(min=0) + noise_variance
    nats = 0.5 * (size * math.log(2 * math.pi * math.e) + np.log(values).sum(axis=-1).mean())
    return bits_per_dim(-nats, size)


def readings(images: np.ndarray) -> list[dict]:
    """Returns rows with the name of a reading, the noise floor and bits/dim.

    Args:
      images: integers `[N, H, W, C]`.
    """
    x = images.astype(np.float64) + 0.5
    count, height, width, channels = x.shape
    patches = {
        k: x.reshape(count, height // k, k, width // k, k, channels)
        .transpose(0, 1, 3, 2, 4, 5)
        .reshape(count, -1, k * k * channels)
        for k in (1, 2, 4)
    }
    blocks = {
        "columns of an image": x.transpose(0, 2, 3, 1).reshape(count, -1, height),
        "rows of an image, colours joined": x.reshape(count, height, -1),
        **{f"{k}x{k} patches of an image": patches[k] for k in patches},
    }
    rows = []
    mean = x.mean(axis=0)
    for variance in (UNIFORM, 0.5, 1.0):
        for what, center in (("x x^T + v I", None), ("the same, mean image off", mean)):
            nats = quasi_linear_optimum(x, variance, center=center)
            rows.append(_row(what, variance, bits_per_dim(nats, x[0].size)))
    for what, values in blocks.items():
        rows += [_row(what, UNIFORM, gaussian_bits(values, UNIFORM, c), c) for c in (False, True)]
    return rows


def _row(what, variance, bits, centered=False):
    name = what + (", mean off" if centered else "")
    return {"reading of S": name, "noise variance": variance, "bits/dim": bits}


def main():
    """Prints the table, writes the JSON."""
    parser = measuring.plain_parser(__doc__.splitlines()[0])
    parser.add_argument("--images", default="cifar10", help="images, as trainers.data names them")
    parser.add_argument("--count", type=int, default=2000, help="images to use")
    parser.add_argument("--output", type=measuring.local_path, help="JSON file for the results")
    flags = parser.parse_args()
    source = loading.load(flags.images, f"train[:{flags.count}]", batch_size=flags.count)
    rows = readings(next(iter(source.dataset)).numpy())
    measuring.print_table(rows)
    measuring.write_results(flags.output, {"images": flags.images, "readings": rows})


if __name__ == "__main__":
    measuring.run(main)
