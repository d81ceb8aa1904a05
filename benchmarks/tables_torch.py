"""Flows of rows by zuko and nflows, as a process that takes requests.

`benchmarks.tables` starts it. A request is a line of JSON on standard input:

    {"build": "zuko", "kind": ..., "data": PATH, "batch": 128}     -> {"parameters": 30000}
    {"train": 3, "library": "zuko", "steps": 600, "report": 50}    -> {"test": 1.2, ...}
    {"time": 100, "library": "zuko", "threads": 2}                 -> {"seconds": 0.01}
"""

import functools
import importlib
import importlib.metadata
import json
import sys
import time

import numpy as np

from benchmarks import tables_data
from benchmarks.tables_data import BINS, BLOCKS, BOUND, DEPTH, WIDTH

HIDDEN = (WIDTH,) * DEPTH


def nflows(torch, kind, dimension):
    """Returns `log_prob` and the module of a flow by nflows."""
    transforms, flows, distributions = (
        importlib.import_module(f"nflows.{name}")
        for name in ("transforms", "flows", "distributions")
    )
    layers = []
    for _ in range(BLOCKS[kind]):
        if kind == "affine autoregressive":
            layers += [
                transforms.ReversePermutation(dimension),
                transforms.MaskedAffineAutoregressiveTransform(
                    dimension, WIDTH, num_blocks=DEPTH - 1, use_residual_blocks=False
                ),
            ]
            continue
        layers += [
            transforms.RandomPermutation(dimension),
            transforms.LULinear(dimension, identity_init=True),
            transforms.PiecewiseRationalQuadraticCouplingTransform(
                torch.where(torch.arange(dimension) < dimension // 2, -1, 1),
                lambda inputs, outputs: network(torch, inputs, outputs),
                num_bins=BINS,
                tails="linear",
                tail_bound=BOUND,
            ),
        ]
    base = distributions.StandardNormal([dimension])
    flow = flows.Flow(transforms.CompositeTransform(layers), base)
    return flow.log_prob, flow


def network(torch, inputs, outputs):
    """Returns a conditioner: hidden layers with ReLU."""

    class Network(torch.nn.Sequential):
        def forward(self, x, context=None):
            return super().forward(x)

    sizes, layers = (inputs, *HIDDEN), []
    for one, other in zip(sizes, sizes[1:], strict=False):
        layers += [torch.nn.Linear(one, other), torch.nn.ReLU()]
    return Network(*layers, torch.nn.Linear(sizes[-1], outputs))


def zuko(torch, kind, dimension):
    """Returns `log_prob` and the module of a flow by zuko."""
    flows, transforms, lazy, distributions = (
        importlib.import_module(f"zuko.{name}")
        for name in ("flows", "transforms", "lazy", "distributions")
    )
    if kind == "affine autoregressive":
        flow = flows.MAF(dimension, transforms=BLOCKS[kind], hidden_features=HIDDEN)
        return lambda x: flow().log_prob(x), flow
    layers = []
    for _ in range(BLOCKS[kind]):
        layers += [
            lazy.UnconditionalTransform(
                transforms.PermutationTransform, torch.randperm(dimension), buffer=True
            ),
            lazy.UnconditionalTransform(transforms.LULinearTransform, torch.eye(dimension)),
            flows.coupling.GeneralCouplingTransform(
                dimension,
                mask=torch.arange(dimension) < dimension // 2,
                univariate=functools.partial(transforms.MonotonicRQSTransform, bound=BOUND),
                shapes=[(BINS,), (BINS,), (BINS - 1,)],
                hidden_features=HIDDEN,
            ),
        ]
    base = lazy.UnconditionalDistribution(
        distributions.DiagNormal, torch.zeros(dimension), torch.ones(dimension), buffer=True
    )
    flow = lazy.Flow(layers, base)
    return lambda x: flow().log_prob(x), flow


class Contestant:
    """A flow on a table."""

    def __init__(self, torch, library, request):
        self._torch, self._batch = torch, request["batch"]
        self._make = functools.partial(library, torch, request["kind"])
        self._table = np.load(request["data"])
        self.begin(0)

    def begin(self, seed):
        """Makes splits and the flow anew."""
        splits = tables_data.split(self._table, seed)
        self._data = {name: self._torch.tensor(part) for name, part in splits.items()}
        self._torch.manual_seed(seed)
        self._log_prob, self.flow = self._make(self._data["train"].shape[1])
        self._optimizer = self._torch.optim.Adam(
            self.flow.parameters(), lr=tables_data.LEARNING_RATE
        )

    def step(self, rows):
        """Takes a step of training."""
        loss = -self._log_prob(self._data["train"][rows]).mean()
        self._optimizer.zero_grad()
        loss.backward()
        self._torch.nn.utils.clip_grad_norm_(self.flow.parameters(), tables_data.CLIP)
        self._optimizer.step()

    def score(self, split):
        """Returns the mean -log p(x)."""
        with self._torch.no_grad():
            parts = [self._log_prob(part) for part in self._data[split].split(5000)]
            return float(-self._torch.cat(parts).mean())

    def rows(self, seed, count):
        """Yields batches of numbers of rows."""
        size = len(self._data["train"])
        for numbers in tables_data.batches(size, self._batch, seed, count):
            yield self._torch.from_numpy(numbers)

    def train(self, seed, steps, report):
        """Trains from the beginning, and returns the best report."""
        self.begin(seed)
        best = tables_data.Best()
        for number, rows in enumerate(self.rows(seed, steps), start=1):
            self.step(rows)
            if number % report == 0:
                best.see(number, self.score)
        return best.answer()

    def time(self, steps):
        """Returns seconds a step."""
        start = time.perf_counter()
        for rows in self.rows(0, steps):
            self.step(rows)
        return (time.perf_counter() - start) / steps


def main():
    """Serves requests until the end of the input."""
    try:
        versions = {name: importlib.metadata.version(name) for name in ("torch", "zuko", "nflows")}
    except importlib.metadata.PackageNotFoundError as error:
        print(json.dumps({"error": f"no package {error.name}"}), flush=True)
        return
    torch = importlib.import_module("torch")
    print(json.dumps(versions), flush=True)
    libraries, found = {"zuko": zuko, "nflows": nflows}, {}
    for line in sys.stdin:
        request = json.loads(line)
        torch.set_num_threads(request.get("threads", 1))
        if "build" in request:
            contestant = Contestant(torch, libraries[request["build"]], request)
            found[request["build"]] = contestant
            answer = {"parameters": sum(p.numel() for p in contestant.flow.parameters())}
        elif "train" in request:
            contestant = found[request["library"]]
            answer = contestant.train(request["train"], request["steps"], request["report"])
        else:
            answer = {"seconds": found[request["library"]].time(request["time"])}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
