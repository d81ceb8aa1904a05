"""Models of sets of points in the plane, the nodes of a graph, each for four data sets."""

from zoo.architectures.graphs import graph_flow
from zoo.catalogue import papers
from zoo.registry import SETS, Recipe, register

NUM_NODES = {"mog4": 4, "mog9": 9, "mog4_ring": 4, "mog9_ring": 9}
_RECIPE = {"batch_size": 256, "learning_rate": 2e-3, "warmup_steps": 250, "steps": 5000}

for _architecture, _what, _paper, _network, _exponential in (
    (
        "graph_coupling",
        "Flow of couplings that see one node at a time,",
        "Dinh, Sohl-Dickstein, Bengio, Real NVP, ICLR 2017, arXiv:1605.08803",
        "mlp",
        False,
    ),
    ("gnf", "Graph normalizing flow", papers.GNF, "graph_net", False),
    (
        "gnf_convexp",
        "Graph normalizing flow with graph convolution exponentials",
        papers.CONVEXP,
        "graph_net",
        True,
    ),
):
    for _dataset, _num_nodes in NUM_NODES.items():
        register(
            f"{_architecture}.{_dataset}",
            graph_flow,
            kind=SETS,
            recipe=Recipe(dataset=_dataset, **_RECIPE),
            summary=f"{_what} for sets of {_num_nodes} points in the plane: {_dataset}.",
            paper=_paper,
            num_nodes=_num_nodes,
            network=_network,
            exponential=_exponential,
        )
