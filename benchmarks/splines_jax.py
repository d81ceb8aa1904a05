"""Flows of FlowJAX and distrax, compiled by XLA, as a process that takes requests.

`benchmarks.splines` starts it; see `benchmarks.splines_serving` for the requests.
"""

import importlib

from benchmarks.splines_serving import BOUND, LAYERS, OPERATIONS, serve


def flowjax(request):
    """Returns a coupling flow; halves alternate by its own permutations."""
    jax, eqx, paramax = map(importlib.import_module, ("jax", "equinox", "paramax"))
    bijections, distributions, flows = (
        importlib.import_module(f"flowjax.{n}") for n in ("bijections", "distributions", "flows")
    )
    if request["kind"] == "spline activations":
        return {}
    key, dimension = jax.random.key(0), request["dimension"]
    spline = bijections.RationalQuadraticSpline(knots=request["bins"], interval=BOUND)
    flow = flows.coupling_flow(
        key,
        base_dist=distributions.Normal(jax.numpy.zeros(dimension)),
        transformer=spline if request["kind"] == "spline couplings" else None,
        flow_layers=LAYERS,
        nn_width=request["width"],
        nn_depth=2,
    )
    is_fixed = lambda leaf: isinstance(leaf, paramax.NonTrainable)  # noqa: E731
    parameters, static = eqx.partition(flow, eqx.is_inexact_array, is_leaf=is_fixed)
    x = jax.numpy.asarray(request["x"], jax.numpy.float32)

    def loss(parameters):
        return -paramax.unwrap(eqx.combine(parameters, static)).log_prob(x).mean()

    gradient = eqx.filter_jit(eqx.filter_grad(loss))
    sample = eqx.filter_jit(lambda key: flow.sample(key, (len(x),)))
    return operations(jax, lambda: gradient(parameters), lambda: sample(key))


def network(jax, key, sizes):
    """Returns the weights of a network with ReLU."""
    keys = jax.random.split(key, len(sizes))
    pairs = zip(keys, sizes[:-1], sizes[1:], strict=False)
    return [(jax.random.normal(k, (a, b)) / a**0.5, jax.numpy.zeros(b)) for k, a, b in pairs]


def apply(jax, weights, x):
    """Returns the network's output."""
    for matrix, bias in weights[:-1]:
        x = jax.nn.relu(x @ matrix + bias)
    return x @ weights[-1][0] + weights[-1][1]


def distrax(request):
    """Returns couplings that alternate between the halves, or splines of shared parameters."""
    jax, library = map(importlib.import_module, ("jax", "distrax"))
    kind, dimension, bins = (request[name] for name in ("kind", "dimension", "bins"))
    key, half = jax.random.key(0), dimension // 2
    count = 2 if kind == "affine couplings" else 3 * bins + 1
    x = jax.numpy.asarray(request["x"], jax.numpy.float32)

    def mover(h):
        h = h.reshape(*h.shape[:-1], -1, count)
        if kind == "affine couplings":
            return library.ScalarAffine(
                shift=h[..., 0], log_scale=2 * jax.numpy.tanh(h[..., 1] / 2)
            )
        return library.RationalQuadraticSpline(
            h, -BOUND, BOUND, boundary_slopes="identity", min_bin_size=1e-3, min_knot_slope=1e-3
        )

    def flow(parameters):
        layers = [
            library.Block(mover(weights), ndims=1)
            if kind == "spline activations"
            else library.SplitCoupling(
                half, 1, lambda a, w=weights: apply(jax, w, a), mover, swap=bool(i % 2)
            )
            for i, weights in enumerate(parameters)
        ]
        base = library.MultivariateNormalDiag(jax.numpy.zeros(dimension))
        return library.Transformed(base, library.Inverse(library.Chain(layers[::-1])))

    if kind == "spline activations":
        parameters = [jax.numpy.zeros(dimension * count)] * LAYERS
    else:
        sizes = [half, request["width"], request["width"], half * count]
        parameters = [network(jax, k, sizes) for k in jax.random.split(key, LAYERS)]
    gradient = jax.jit(jax.grad(lambda p: -flow(p).log_prob(x).mean()))
    sample = jax.jit(lambda p, key: flow(p).sample(seed=key, sample_shape=len(x)))
    return operations(jax, lambda: gradient(parameters), lambda: sample(parameters, key))


def operations(jax, *functions):
    """Returns the operations, which wait for their results."""
    return {
        name: lambda function=function: jax.block_until_ready(function())
        for name, function in zip(OPERATIONS, functions, strict=True)
    }


def main():
    """Serves requests until the end of the input."""
    serve({"FlowJAX": flowjax, "distrax": distrax}, ["jax", "flowjax", "distrax"])


if __name__ == "__main__":
    main()
