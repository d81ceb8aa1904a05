"""Flows of the nodes of a graph."""

from collections.abc import Sequence

import tensorflow as tf
import tensorflow_probability as tfp

from tfflows import bijectors, distributions, networks, numerics
from zoo.architectures.building import Seeds, pairs, takes, transform_of, vector

tfb = tfp.bijectors
tfd = tfp.distributions


def graph_flow(
    num_nodes: int,
    network: str,
    exponential: bool,
    num_features: int = 2,
    adjacency: Sequence | None = None,
    conditional: bool = False,
    num_blocks: int = 8,
    width: int = 48,
    depth: int = 2,
    num_heads: int = 4,
    max_norm: float = 0.95,
    num_bins: int | None = 8,
    bound: float = 4.0,
    context_size: int | None = None,
    seed: int = 0,
) -> tfp.distributions.Distribution:
    """Builds a flow of the features of nodes, from blocks of three layers.

    A block is an `ActNorm` with one scale and shift a feature; if `exponential`, a
    `GraphConvExponential`; and a coupling that moves one half of the features of every node by the
    other half of those of all nodes. The halves take turns. Nodes in another order have the same
    density, if the graph is in that order, too.

    Args:
      num_nodes: number of nodes.
      network: `"graph_net"`, or `"mlp"`, which sees one node at a time.
      exponential: whether there are graph convolution exponentials.
      num_features: features of a node.
      adjacency: the graph as nested lists `[N, N]`, symmetric and not negative; by default every
        node is connected with every other.
      conditional: whether the graph is a context instead, which `tfflows.condition` binds. The
        exponentials use its entries as they are: give one from `normalized_adjacency`.
      num_blocks: number of blocks.
      width: width of the networks.
      depth: layers of the networks.
      num_heads: heads of `"graph_net"`.
      max_norm: see `GraphConvExponential`.
      num_bins: bins of rational-quadratic splines; `None` for affine couplings.
      bound: half the side of the box of the splines.
      context_size: length of a context vector that the couplings are conditional on; not with
        `conditional`. `None` for no such context.
      seed: seed of the initial weights.

    Raises:
      ValueError: if `network` is not one of the above, or there are two contexts.
    """
    if network not in ("graph_net", "mlp"):
        raise ValueError(f'`network` must be "graph_net" or "mlp". Received: network={network!r}.')
    if conditional and context_size is not None:
        raise ValueError(
            "`context_size` must be None if the graph is the context, with conditional=True. "
            f"Received: context_size={context_size}."
        )
    context = vector(context_size)
    seeds, kept = Seeds(seed), num_features // 2
    shape, is_complete = [num_nodes, num_features], not conditional and adjacency is None
    edges = None if conditional else _normalized(num_nodes, adjacency)
    transform = transform_of(num_bins, bound)
    outputs = transform.num_parameters * (num_features - kept)
    sees_graph = conditional and network == "graph_net"

    def conditioner():
        if network == "mlp":
            made = networks.MLP(outputs, width=width, depth=depth, seed=seeds())
        else:
            made = networks.GraphNet(
                outputs,
                width=width,
                depth=depth,
                num_heads=num_heads,
                adjacency=adjacency,
                context_size=context_size,
                seed=seeds(),
            )
        context_shape = [num_nodes, num_nodes] if sees_graph else context
        return networks.build_network(made, [num_nodes, kept], context_shape)

    def exponential_layer(name):
        return bijectors.GraphConvExponential.trainable(
            [None, num_features],
            edges,
            max_norm=max_norm,
            adjacency_norm=1.0 if is_complete else None,
            conditional=conditional,
            seed=seeds(),
            name=name,
        )

    def block(index):
        name = f"block{index}"
        layers = [bijectors.ActNorm.trainable([None, num_features], name=f"{name}_act_norm")]
        if exponential:
            layers.append(exponential_layer(f"{name}_exponential"))
        options = {"split_size": kept, "reverse": index % 2 == 1, "conditional": sees_graph}
        options |= takes(context)
        options["name"] = f"{name}_coupling"
        layers.append(bijectors.Coupling(conditioner(), shape, transform, **options))
        return bijectors.Block(layers, name=name)

    flow = bijectors.Sequential(pairs([block(index) for index in range(num_blocks)]))
    return tfd.TransformedDistribution(distributions.standard_normal(shape), tfb.Invert(flow))


def _normalized(num_nodes, adjacency):
    """Returns the normalized adjacency; of the complete graph, which has no loops, for `None`."""
    if adjacency is None:
        adjacency = tf.ones([num_nodes, num_nodes]) - tf.eye(num_nodes)
    return numerics.normalized_adjacency(tf.convert_to_tensor(adjacency, tf.float32))
