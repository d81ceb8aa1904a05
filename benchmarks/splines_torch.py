"""Flows of nflows, zuko and normflows, as a process that takes requests.

`benchmarks.splines` starts it; see `benchmarks.splines_serving` for the requests.
"""

import functools
import importlib

from benchmarks.splines_serving import BOUND, LAYERS, serve


def network(torch, inputs, outputs, width):
    """Returns the conditioner of all contestants: two hidden layers with ReLU."""
    nn = torch.nn

    class Network(nn.Sequential):
        def forward(self, x, context=None):
            return super().forward(x)

    return Network(
        *(nn.Linear(inputs, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU()),
        nn.Linear(width, outputs),
    )


def nflows(torch, kind, dimension, width, bins):
    """Returns a `Flow` with masks that alternate between the halves."""
    transforms, flows, distributions = (
        importlib.import_module(f"nflows.{name}")
        for name in ("transforms", "flows", "distributions")
    )
    spline = {"num_bins": bins, "tails": "linear", "tail_bound": BOUND}
    layers = []
    for i in range(LAYERS):
        mask = torch.where((torch.arange(dimension) < dimension // 2) == (i % 2 == 0), -1, 1)
        net = lambda inputs, outputs: network(torch, inputs, outputs, width)  # noqa: E731
        if kind == "affine couplings":
            layers.append(transforms.AffineCouplingTransform(mask, net))
        elif kind == "spline couplings":
            layer = transforms.PiecewiseRationalQuadraticCouplingTransform
            layers.append(layer(mask, net, **spline))
        else:
            layer = transforms.PiecewiseRationalQuadraticCDF
            layers.append(layer([dimension], **spline))
    base = distributions.StandardNormal([dimension])
    flow = flows.Flow(transforms.CompositeTransform(layers), base)
    return flow, flow.log_prob, flow.sample


def zuko(torch, kind, dimension, width, bins):
    """Returns a `Flow`; masks alternate between even and odd entries."""
    flows, transforms = (importlib.import_module(f"zuko.{n}") for n in ("flows", "transforms"))
    options = {}
    if kind != "affine couplings":
        univariate = functools.partial(transforms.MonotonicRQSTransform, bound=BOUND)
        options = {"univariate": univariate, "shapes": [(bins,), (bins,), (bins - 1,)]}
    if kind == "spline activations":
        layers = [flows.ElementWiseTransform(dimension, **options) for _ in range(LAYERS)]
        base = flows.UnconditionalDistribution(
            importlib.import_module("zuko.distributions").DiagNormal,
            *(torch.zeros(dimension), torch.ones(dimension)),
            buffer=True,
        )
        flow = flows.Flow(layers, base)
    else:
        hidden = {"hidden_features": (width, width)}
        flow = flows.NICE(dimension, transforms=LAYERS, **hidden, **options)
    return flow, lambda x: flow().log_prob(x), lambda n: flow().sample((n,))


def normflows(torch, kind, dimension, width, bins):
    """Returns a `NormalizingFlow`; halves alternate, even and odd entries in splines."""
    nf, half, layers = importlib.import_module("normflows"), dimension // 2, []
    if kind == "spline activations":
        return None
    for i in range(LAYERS):
        if kind == "affine couplings":
            net = nf.nets.MLP([half, width, width, dimension])
            layers += [nf.flows.AffineCouplingBlock(net), nf.flows.Permute(dimension, mode="swap")]
            continue
        layer = nf.flows.CoupledRationalQuadraticSpline(
            *(dimension, 1, 8), num_bins=bins, tail_bound=BOUND, reverse_mask=bool(i % 2)
        )
        # In place of its residual network, the network of the other contestants.
        layer.prqct.transform_net = network(torch, half, half * (3 * bins - 1), width)
        layers.append(layer)
    flow = nf.NormalizingFlow(nf.distributions.DiagGaussian(dimension, trainable=False), layers)
    return flow, flow.log_prob, lambda n: flow.sample(n)[0]


def build(torch, library, request):
    """Returns the operations of a library, as functions of no arguments."""
    found = library(torch, *(request[k] for k in ("kind", "dimension", "width", "bins")))
    if found is None:
        return {}
    flow, log_prob, sample = found
    x = torch.tensor(request["x"], dtype=torch.float32)
    parameters = [p for p in flow.parameters() if p.requires_grad]

    def gradients():
        return torch.autograd.grad(-log_prob(x).mean(), parameters)

    def samples():
        with torch.no_grad():
            return sample(len(x))

    return {"log_prob + gradients": gradients, "samples": samples}


def main():
    """Serves requests until the end of the input."""
    torch = importlib.import_module("torch")
    libraries = {
        name: functools.partial(build, torch, library)
        for name, library in (("nflows", nflows), ("zuko", zuko), ("normflows", normflows))
    }
    serve(libraries, ["torch", *libraries], torch.set_num_threads)


if __name__ == "__main__":
    main()
