"""Times layers of a bundle of `benchmarks.accelerator` in plain PyTorch, eager and compiled.

    python -m benchmarks.accelerator_torch --folder=runs/accelerator

On the GPU, if PyTorch has one. Each computes what the bundle's program does, of the same arrays,
and says how far off it is. Needs PyTorch and NumPy, neither TensorFlow nor JAX.
"""

import argparse
import math
import os
import pathlib
import sys
import time

from benchmarks import accelerator_jax, exponential_torch, sylvester_torch

torch = exponential_torch.torch
LAYOUTS = exponential_torch.LAYOUTS
WITH_GRADIENTS = "forward + backward"


def exponential(arrays, about, compile):
    """Returns the series and its gradients in each layout."""
    for layout in LAYOUTS:
        found = exponential_torch.contestants(
            arrays["x"], arrays["kernel"], about["terms"], layout, compile
        )
        yield layout, found[layout, WITH_GRADIENTS], lambda y: y.permute(0, 2, 3, 1)


def sylvester(arrays, about, compile):
    """Returns the Sylvester flow, its log-det and gradients in each layout."""
    for layout in LAYOUTS:
        found = sylvester_torch.contestants(arrays, about, layout, compile)
        yield layout, found[layout, WITH_GRADIENTS], lambda y: y.permute(0, 2, 3, 1)


def splines(arrays, about, compile):
    """Returns the loss of rational-quadratic couplings and its gradients."""
    x = torch.tensor(arrays["x"])
    weights = [torch.tensor(arrays[f"w{i}"]) for i in range(6 * about["layers"])]
    weights = [w.requires_grad_() for w in weights]
    loss = compile(lambda x, weights: spline_loss(x, weights, about["bins"], about["bound"]))

    def both():
        value = loss(x, weights)
        return [value.detach(), *torch.autograd.grad(value, weights)]

    yield "", both, lambda y: y


def spline_loss(x, weights, bins, bound):
    """Returns the mean of -log p(x), a normal at the end of couplings whose halves take turns."""
    half, total = x.shape[1] // 2, 0.0
    for layer in range(len(weights) // 6):
        a, b = (x[:, :half], x[:, half:]) if layer % 2 == 0 else (x[:, half:], x[:, :half])
        h = a
        for i in range(3):
            kernel, bias = weights[6 * layer + 2 * i : 6 * layer + 2 * i + 2]
            h = h @ kernel + bias
            h = torch.relu(h) if i < 2 else h
        b, log_slope = spline(b, h.reshape(len(x), half, -1), bins, bound)
        total = total + log_slope.sum(1)
        x = torch.cat([a, b] if layer % 2 == 0 else [b, a], 1)
    return ((x**2).sum(1) / 2 - total).mean() + x.shape[1] * math.log(2 * math.pi) / 2


def spline(x, h, bins, bound, least=1e-3):
    """Returns x moved by rational-quadratic splines, as nflows and others write them."""
    inside = x.abs() < bound
    x_in = torch.where(inside, x, 0.0)

    def knots(raw):
        sizes = least + (1 - least * bins) * torch.softmax(raw, -1)
        sums = torch.nn.functional.pad(torch.cumsum(sizes, -1), (1, 0))
        return 2 * bound * sizes, bound * (2 * sums - 1)

    widths, knots_x = knots(h[..., :bins])
    heights, knots_y = knots(h[..., bins : 2 * bins])
    slopes = torch.nn.functional.softplus(h[..., 2 * bins :] + math.log(math.expm1(1 - least)))
    slopes = torch.nn.functional.pad(least + slopes, (1, 1), value=1.0)
    number = torch.searchsorted(knots_x[..., 1:-1].contiguous(), x_in[..., None], right=True)

    def pick(values):
        return torch.gather(values, -1, number)[..., 0]

    width, height, first, last = map(pick, (widths, heights, slopes, slopes[..., 1:]))
    left, bottom = pick(knots_x), pick(knots_y)
    xi, ratio = (x_in - left) / width, height / width
    product = xi * (1 - xi)
    denominator = ratio + (first + last - 2 * ratio) * product
    y = bottom + height * (ratio * xi**2 + first * product) / denominator
    numerator = last * xi**2 + 2 * ratio * product + first * (1 - xi) ** 2
    log_slope = 2 * torch.log(ratio / denominator) + torch.log(numerator)
    return torch.where(inside, y, x), torch.where(inside, log_slope, 0.0)


KINDS = {"exponential": exponential, "sylvester": sylvester, "splines": splines}


def measure(unit, mode, seconds, synchronize):
    """Yields a row for each contestant of a layer."""
    about = unit.about["torch"]
    expected = unit.about["programs"][0]["expected"][0]
    arrays = unit.arrays()
    compile = torch.compile if mode == "compiled" else lambda function: function
    for layout, function, to_channels_last in KINDS[about["kind"]](arrays, about, compile):
        row = {
            "case": unit.about["model"],
            "operation": WITH_GRADIENTS,
            "contestant": f"torch {mode} {layout}".strip(),
        }
        try:
            value = to_channels_last(function()[0]).cpu().numpy()
            row["relative"] = unit.error(expected, value)
            row["ms"] = 1e3 * accelerator_jax.burst(function, seconds, synchronize)
        except Exception as error:  # No compiler, say; the others go on.
            row["error"] = f"{type(error).__name__}: {str(error)[:300]}"
        yield row


def main():
    """Times all layers; what is done is in the file at once."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", type=pathlib.Path, required=True, help="of the bundle")
    parser.add_argument("--results", type=pathlib.Path, help="folder of torch.json (--folder)")
    parser.add_argument("--burst", type=float, default=1.0, help="seconds of a timing, of three")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="to begin layers")
    args = parser.parse_args()
    if torch is None:
        raise SystemExit("Run this with a Python that has PyTorch.")
    on_gpu = torch.cuda.is_available()
    if on_gpu:
        torch.set_default_device("cuda")
        torch.set_float32_matmul_precision("high")  # TF32, as JAX and PyTorch's convolutions.
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    synchronize = torch.cuda.synchronize if on_gpu else lambda: None
    facts = {
        "device": torch.cuda.get_device_name() if on_gpu else "cpu",
        "torch": str(torch.__version__),
        "arithmetic": "TF32" if on_gpu else "float32",
    }
    results = accelerator_jax.Results(args.results or args.folder, "torch", facts)
    units = accelerator_jax.find_units(args.folder, "fast")
    units = [unit for unit in units if "torch" in unit.about]
    begun = time.time()
    for mode in ("eager", "compiled"):
        for unit in sorted(units, key=lambda unit: unit.programs[0].about["order"]):
            if time.time() - begun > args.seconds:
                break
            for row in measure(unit, mode, args.burst, lambda _: synchronize()):
                results.add(row)
    return int(any("error" in row for row in results.rows))


if __name__ == "__main__":
    sys.exit(main())
