"""Ways to draw samples of transformer flows: all tokens at once, again and again, or one by one.

python -m benchmarks.inversions [--model NAME_OR_PATH ...] [--picture=FILE] [--output=results.json]
                                [--quick]

Milliseconds for a batch of samples, by `inversion` of `Autoregressive`, and how many evaluations of
the network the largest event of a block takes, on average over the blocks. Weights have to be
trained: at the start all blocks are the identity. The picture shows, for the first model and 64
samples, how far the tokens are from their end after every evaluation, block by block.
"""

import itertools

from benchmarks import measuring

BATCHES = (1, 16, 128)


def contestants(model, batch, seconds):
    """Returns functions for `measuring.in_rounds`, and the evaluations of each inversion."""
    import numpy as np
    import tensorflow as tf

    from tfflows import analysis, bijectors
    from tfflows.evaluation.parts import rebuild

    def changed(inversion):
        def change(part):
            return {"inversion": inversion} if isinstance(part, bijectors.Autoregressive) else {}

        return rebuild(model.bijector.bijector, changes=change)

    z = model.distribution.sample(batch, seed=1)
    found, results, evaluations = {}, [], {}
    for inversion, jit in itertools.product(("parallel", "sequential"), (False, True)):
        flow = changed(inversion)
        inverse = tf.function(flow.inverse, jit_compile=jit, autograph=False)
        results.append(inverse(z))
        run = measuring.turn(lambda inverse=inverse: inverse(z), seconds)
        found[f"{inversion}, {'XLA' if jit else 'graph'}, ms"] = run
        counts = analysis.inverse_iterations(flow, results[-1])
        evaluations[f"{inversion}, evaluations"] = float(np.mean(np.max(counts, axis=-1)))
    for result in results[1:]:
        np.testing.assert_allclose(result, results[0], atol=0.05)  # Of pixels of 0 to 256.
    return found, evaluations


def distances(model):
    """Returns for each block the largest distance of an entry from its end, `[T + 1]`."""
    import numpy as np
    import tensorflow as tf

    from tfflows import analysis, bijectors

    found = []
    for record in analysis.record_layers(model.bijector.bijector, model.sample(64, seed=1)):
        if not isinstance(layer := record.bijector, bijectors.Autoregressive):
            continue

        def update(x, layer=layer, y=record.output):
            return layer.transform.move(y, layer.network(x), inverse=True)[0]

        update, steps = tf.function(update, autograph=False), [tf.zeros_like(record.output)]
        for _ in range(record.output.shape[1]):
            steps.append(update(steps[-1]))
        found.append([float(np.max(np.abs(step - steps[-1]))) for step in steps])
    return found


def draw(path, name, found):
    """Writes the picture."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot()
    for number, block in enumerate(found):
        axes.semilogy([max(value, 1e-8) for value in block], label=f"block {number}")
    axes.axhline(2e-6, color="grey", linewidth=1, linestyle=":")
    axes.set(
        title=f"All tokens of {name} at once",
        xlabel="evaluations of the transformer",
        ylabel="largest distance from the end",
    )
    axes.legend()
    figure.savefig(path, dpi=100)


def main():
    parser = measuring.flag_parser(__doc__.splitlines()[0])
    parser.add_argument("--model", nargs="+", default=["tarflow.digits"], help="names or paths")
    parser.add_argument("--picture", type=measuring.local_path, help="PNG file for the picture")
    args = parser.parse_args()
    measuring.set_up_tensorflow(args.onednn)
    import tensorflow as tf

    import zoo

    tf.get_logger().setLevel("ERROR")  # It takes the functions of all cases for one, traced anew.
    if args.picture is not None:
        model = zoo.create(args.model[0], pretrained=True)
        draw(args.picture, args.model[0], distances(model))
    rounds, seconds = (1, 0.0) if args.quick else (5, 0.2)
    rows = []
    for name, batch in itertools.product(args.model, BATCHES):
        print(f"{name}, batches of {batch} ...", flush=True)
        model = zoo.create(name, pretrained=True)
        functions, evaluations = contestants(model, batch, seconds)
        times = measuring.in_rounds(functions, rounds)
        row = {"model": name, "tokens": model.distribution.event_shape[0], "batch": batch}
        row |= {name: 1e3 * measuring.median(value) for name, value in times.items()}
        rows.append(row | evaluations)
    measuring.report(rows, ["tensorflow"], args.output)


if __name__ == "__main__":
    measuring.run(main)
