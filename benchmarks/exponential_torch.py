"""The series of the convolution exponential in plain PyTorch, as a process that takes requests.

`benchmarks.exponential` starts it, with a Python of its own if need be. A request is a line of JSON
on standard input, the answer one on standard output:

    {"prepare": "case.npz", "outputs": "outputs.npz", "terms": 9}   -> {}
    {"time": ["channels_last", "forward"], "seconds": 0.25, "threads": 1}  -> {"seconds": 0.0071}
"""

import importlib
import json
import sys
from collections.abc import Callable

import numpy as np

from benchmarks import measuring

try:
    # Not a plain import: Bazel takes its packages from requirements_lock.txt, which has no PyTorch.
    torch = importlib.import_module("torch")
except ImportError:
    torch = None

LAYOUTS = ("NCHW", "channels_last")
Contestants = dict[tuple[str, str], Callable[[], list]]


def series(x, kernel, terms: int):
    """Returns `sum_{i<=terms} M^i x / i!`, written as one would, for autograd to differentiate.

    Args:
      x: `[N, C, H, W]`.
      kernel: `[C, C, kh, kw]`.
      terms: number of convolutions.
    """
    padding = [size // 2 for size in kernel.shape[2:]]
    term, y = x, x.clone()
    for i in range(1, terms + 1):
        term = torch.nn.functional.conv2d(term, kernel, padding=padding) / i
        y += term
    return y


def contestants(
    x, kernel, terms: int, layout: str, compile: Callable = lambda function: function
) -> Contestants:
    """Returns the operations in one memory layout, as functions of no arguments.

    Args:
      x: `[N, H, W, C]`.
      kernel: `[kh, kw, C, C]`.
      terms: number of convolutions.
      layout: one of `LAYOUTS`.
      compile: what to make of the function, `torch.compile` or nothing.
    """
    memory = torch.channels_last if layout == "channels_last" else torch.contiguous_format
    x = torch.tensor(x).permute(0, 3, 1, 2).contiguous(memory_format=memory)
    kernel = torch.tensor(kernel).permute(3, 2, 0, 1).contiguous(memory_format=memory)
    leaves = [x.clone().requires_grad_(), kernel.clone().requires_grad_()]

    differentiated = compile(series)

    def both():
        y = differentiated(*leaves, terms)
        return [y.detach(), *torch.autograd.grad(y, leaves, y.detach())]

    def without_gradients(kernel):
        with torch.inference_mode():
            return [series(x, kernel, terms)]

    return {
        (layout, "forward"): lambda: without_gradients(kernel),
        (layout, "forward + backward"): both,
        (layout, "inverse"): lambda: without_gradients(-kernel),
    }


def matmul(size: int) -> Callable[[], object]:
    """Returns a function that multiplies two square matrices."""
    a, b = torch.randn(2, size, size)
    return lambda: torch.matmul(a, b)


def prepare(request: dict) -> Contestants:
    """Makes the contestants of a case and writes what they compute, as TensorFlow orders it."""
    with np.load(request["prepare"]) as case:
        arrays = [case[name] for name in ("x", "kernel")]
    found = {("", "matmul"): matmul(request["matmul_size"])}
    for layout in LAYOUTS:
        found |= contestants(*arrays, request["terms"], layout)
    outputs = {
        "|".join([*key, str(i)]): value.permute(0, 2, 3, 1) if i < 2 else value.permute(2, 3, 1, 0)
        for key, function in found.items()
        if key[0]
        for i, value in enumerate(function())
    }
    np.savez(request["outputs"], **{name: value.numpy() for name, value in outputs.items()})
    return found


def main():
    """Serves requests until the end of the input."""
    if torch is None:
        print(json.dumps({"error": "no torch"}), flush=True)
        return
    hello = {"torch": str(torch.__version__)}
    print(json.dumps(hello), flush=True)
    found = {}
    for line in sys.stdin:
        request = json.loads(line)
        if "prepare" in request:
            found, answer = prepare(request), {}
        else:
            torch.set_num_threads(request["threads"])
            function = found[tuple(request["time"])]
            answer = {"seconds": measuring.burst(function, request["seconds"])}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
