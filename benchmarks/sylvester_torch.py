"""The convolutional Sylvester flow in plain PyTorch, as a process that takes requests.

`benchmarks.sylvester` starts it, with a Python of its own if need be. A request is a line of JSON
on standard input, the answer one on standard output:

    {"prepare": "case.npz", "outputs": "outputs.npz", "terms": 9, "tolerance": 2e-6}   -> {}
    {"time": ["channels_last", "inverse"], "seconds": 0.25, "threads": 1}   -> {"seconds": 0.31}
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


def convolve(x, kernel, bias=None):
    """Returns the cross-correlation with zero padding."""
    return torch.nn.functional.conv2d(x, kernel, bias, padding=kernel.shape[-1] // 2)


class CappedKernel:
    """A kernel divided by `max(1, sigma / cap)`, `sigma` by power iteration, one step a forward.

    Args:
      kernel: `[outputs, inputs, kh, kw]`, a leaf.
      cap: the largest norm.
      size: height and width of the images.
      mask: of the shape of the kernel, or `None`.
    """

    def __init__(self, kernel, cap, size, mask=None):
        self.leaf, self._cap, self._mask = kernel, cap, mask
        self._u = torch.randn(1, kernel.shape[1], size, size)
        for _ in range(20):
            self.step(self.masked().detach())

    def masked(self):
        """Returns the kernel without what is masked."""
        return self.leaf if self._mask is None else self.leaf * self._mask

    def step(self, kernel):
        """Takes a step of the power iteration."""
        v = convolve(self._u, kernel)
        v /= v.norm()
        padding = kernel.shape[-1] // 2
        u = torch.nn.functional.conv_transpose2d(v, kernel, padding=padding)
        self._u, self._v = u / u.norm(), v

    def __call__(self, training):
        """Returns the kernel to convolve with."""
        kernel = self.masked()
        if training:
            with torch.no_grad():
                self.step(kernel)
        sigma = (self._v * convolve(self._u, kernel)).sum()
        return kernel / torch.clamp(sigma / self._cap, min=1.0)


class Flow:
    """`y = x + W^-1 f(W x)`.

    Args:
      arrays: the parameters, kernels `[kh, kw, inputs, outputs]`.
      terms: convolutions of the exponential.
      size: height and width of the images.
      memory: memory format of kernels.
    """

    def __init__(self, arrays, terms, size, memory):
        def leaf(name):
            array = arrays[name]
            if array.ndim == 4:
                array = array.transpose(3, 2, 0, 1)
            tensor = torch.tensor(array)
            if array.ndim == 4:
                tensor = tensor.contiguous(memory_format=memory)
            return tensor.requires_grad_()

        self._terms = terms
        self._reflections = leaf("reflections")
        self._exponential = CappedKernel(leaf("exponential"), 0.95, size)
        kernels = [leaf(f"kernel_{i}") for i in range(6)]
        self._kernels = [CappedKernel(k, 1.5, size, (k != 0).float()) for k in kernels]
        self._biases = [leaf(f"bias_{i}") for i in range(6)]
        others = [k for i, k in enumerate(kernels) if i != 1]
        self.leaves = [kernels[1], *others, *self._biases, self._reflections]
        self.leaves.append(self._exponential.leaf)

    def prepare(self, training):
        """Returns the 1x1 kernel, the kernel of the exponential and those of the network."""
        q = torch.eye(self._reflections.shape[1])
        for v in self._reflections:
            q = q - 2 * torch.outer(q @ v, v) / (v @ v)
        kernels = [kernel(training) for kernel in self._kernels]
        return q[:, :, None, None], self._exponential(training), kernels

    def to_basis(self, x, q, kernel):
        """Returns `W x`."""
        return self._series(convolve(x, q), kernel)

    def from_basis(self, u, q, kernel):
        """Returns `W^-1 u`."""
        return convolve(self._series(u, -kernel), q.transpose(0, 1))

    def _series(self, x, kernel):
        term, y = x, x.clone()
        for i in range(1, self._terms + 1):
            term = convolve(term, kernel) / i
            y = y + term
        return y

    def function(self, u, kernels):
        """Returns `f(u)` and the diagonal of its Jacobian."""
        h = torch.relu(convolve(u, kernels[0], self._biases[0]))
        h = torch.relu(convolve(h, kernels[1], self._biases[1]))
        heads = zip(kernels[2:], self._biases[2:], strict=True)
        t1, s1, t2, s2 = (convolve(h, kernel, bias) for kernel, bias in heads)
        s1, s2 = torch.tanh(s1), torch.tanh(s2) / 2
        t = torch.tanh(s1 * u + t1)
        return s2 * t + t2, s1 * s2 * (1 - t**2)

    def forward(self, x):
        """Returns output and log-det."""
        q, kernel, kernels = self.prepare(training=True)
        value, diagonal = self.function(self.to_basis(x, q, kernel), kernels)
        return x + self.from_basis(value, q, kernel), torch.log1p(diagonal).sum((1, 2, 3))

    def inverse(self, y, tolerance):
        """Returns images and iterations, of the fixed-point iteration of the paper."""
        q, kernel, kernels = self.prepare(training=False)
        v = self.to_basis(y, q, kernel)
        u, iterations = v, 0
        largest = v.abs().amax((1, 2, 3)).clamp(min=1)
        while iterations < 1000:
            new = v - self.function(u, kernels)[0]
            change, u, iterations = (new - u).abs().amax((1, 2, 3)), new, iterations + 1
            if bool((change <= tolerance * largest).all()):
                break
        return y - self.from_basis(v - u, q, kernel), iterations


def contestants(
    arrays, request, layout: str, compile: Callable = lambda function: function
) -> Contestants:
    """Returns the operations in one memory layout, as functions of no arguments.

    `compile` is what to make of the flow: `torch.compile`, or nothing.
    """
    memory = torch.channels_last if layout == "channels_last" else torch.contiguous_format
    x = torch.tensor(arrays["x"]).permute(0, 3, 1, 2).contiguous(memory_format=memory)
    flow = Flow(arrays, request["terms"], x.shape[-1], memory)
    y = flow.forward(x)[0].detach().contiguous(memory_format=memory)
    leaves = [x.clone().requires_grad_(), *flow.leaves]

    forward = compile(flow.forward)

    def both():
        y, log_det = forward(leaves[0])
        loss = (y**2).sum() / 2 - log_det.sum()
        return [y.detach(), log_det.detach(), *torch.autograd.grad(loss, leaves)]

    def inverse():
        with torch.inference_mode():
            x, iterations = flow.inverse(y, request["tolerance"])
        return [x, torch.tensor(iterations)]

    return {(layout, "forward + backward"): both, (layout, "inverse"): inverse}


def outputs(found: Contestants) -> dict[str, np.ndarray]:
    """Returns what the contestants compute, as TensorFlow orders it."""
    result = {}
    for key, function in found.items():
        values = function()[: 4 if key[1] != "inverse" else 2]
        values[0] = values[0].permute(0, 2, 3, 1)
        if len(values) == 4:
            values[2], kernel = values[2].permute(0, 2, 3, 1), values[3]
            values[3] = kernel.permute(2, 3, 1, 0)[0]
        for i, value in enumerate(values):
            result["|".join([*key, str(i)])] = value.numpy()
    return result


def main():
    """Serves requests until the end of the input."""
    if torch is None:
        print(json.dumps({"error": "no torch"}), flush=True)
        return
    hello = {"torch": str(torch.__version__)}
    print(json.dumps(hello), flush=True)
    found = {}
    for line in sys.stdin:
        request, answer = json.loads(line), {}
        if "prepare" in request:
            with np.load(request["prepare"]) as case:
                arrays = dict(case)
            found = {}
            for layout in LAYOUTS:
                found |= contestants(arrays, request, layout)
            np.savez(request["outputs"], **outputs(found))
        else:
            torch.set_num_threads(request["threads"])
            function = found[tuple(request["time"])]
            answer = {"seconds": measuring.burst(function, request["seconds"])}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
