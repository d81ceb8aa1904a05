"""Time of the graph convolution exponential against the number of nodes, sparse and dense.

python -m benchmarks.graph_exponential [--output=results.json] [--quick]

Random graphs with 5 edges a node on average, each in both directions: 10 entries a row, whatever
the number of nodes. A cost that is linear in the edges is then the same for each of them.
"""

import argparse
import importlib

import numpy as np

from benchmarks import measuring

DEGREE = 10
LARGEST_DENSE = 3000
NODES = (1000, 3000, 10_000, 30_000, 100_000)
QUICK_NODES = (100, 1000)


def random_edges(num_nodes: int) -> np.ndarray:
    """Returns the entries `[E, 2]` of a symmetric matrix without self loops, sorted by row."""
    rng = np.random.default_rng(0)
    ends = rng.integers(num_nodes, size=[DEGREE * num_nodes // 2, 2])
    ends = ends[ends[:, 0] != ends[:, 1]]
    return np.unique(np.concatenate([ends, ends[:, ::-1]]), axis=0)


def contestants(edges: np.ndarray, num_nodes: int, num_features: int) -> dict:
    """Returns a function without arguments for each kind of graph, compilation and operation."""
    tf = importlib.import_module("tensorflow")
    packages = ("tfflows.bijectors", "tfflows.evaluation", "tfflows.numerics")
    bijectors, evaluation, numerics = map(importlib.import_module, packages)
    x = tf.random.stateless_normal([num_nodes, num_features], [0, 0])
    graph = tf.SparseTensor(edges, tf.ones([len(edges)]), [num_nodes, num_nodes])
    kinds = {"sparse": graph}
    if num_nodes <= LARGEST_DENSE:
        kinds["dense"] = tf.sparse.to_dense(graph)
    found = {}
    for kind, adjacency in kinds.items():
        flow = bijectors.GraphConvExponential.trainable(
            [None, num_features],
            numerics.normalized_adjacency(adjacency),
            adjacency_norm=1.0,
            seed=1,
        )

        def forward(flow=flow):
            return evaluation.forward_and_log_det(flow, x)

        def both(flow=flow):
            with tf.GradientTape() as tape:
                tape.watch(x)
                y, log_det = evaluation.forward_and_log_det(flow, x)
                loss = tf.reduce_sum(y**2) / 2 - log_det
            return tape.gradient(loss, [x, *flow.trainable_variables])

        for operation, function in (("forward", forward), ("forward + backward", both)):
            for jit in (False, True):
                compiled = tf.function(function, jit_compile=jit)
                found[kind, "XLA" if jit else "graph", operation] = _waiting(compiled)
    return found


def _waiting(function):
    """Returns the function with its results fetched, so that it has finished."""
    return lambda: [value.numpy() for value in function()]


def measure(num_nodes: int, num_features: int, rounds: int, seconds: float) -> list[dict]:
    """Returns a row for each contestant."""
    edges = random_edges(num_nodes)
    found = contestants(edges, num_nodes, num_features)
    turns = {key: measuring.turn(function, seconds) for key, function in found.items()}
    return [
        {
            "nodes": num_nodes,
            "entries": len(edges),
            "graph": kind,
            "compiled": compiled,
            "operation": operation,
            "s": measuring.median(times),
            "us an entry": 1e6 * measuring.median(times) / len(edges),
        }
        for (kind, compiled, operation), times in measuring.in_rounds(turns, rounds).items()
    ]


def parse_flags() -> argparse.Namespace:
    """Returns the flags."""
    parser = measuring.flag_parser(__doc__.splitlines()[0])
    parser.add_argument("--features", type=int, default=16, help="features of a node")
    return parser.parse_args()


def main():
    """Measures, prints the table, writes the JSON."""
    flags = parse_flags()
    measuring.set_up_tensorflow(flags.onednn)
    environment = measuring.environment(["tensorflow", "numpy"])
    measuring.print_values(environment | {"features": flags.features})
    rows = []
    for num_nodes in QUICK_NODES if flags.quick else NODES:
        effort = (1, 0.01) if flags.quick else (5, 0.3)
        rows += measure(num_nodes, flags.features, *effort)
    measuring.print_table(rows)
    results = {"environment": environment, "features": flags.features, "results": rows}
    measuring.write_results(flags.output, results)


if __name__ == "__main__":
    measuring.run(main)
