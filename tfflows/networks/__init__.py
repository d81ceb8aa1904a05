"""Keras layers that condition couplings: `[N, H, W, C]` to `[N, H, W, num_outputs]`.

All end in a layer that starts at zero, so that a coupling starts as the identity, and take an
optional context. `MLP` takes events of any rank, `GraphNet` the nodes of a graph `[N, P, F]`, with
the graph as context. `MaskedMLP`, of vectors, `CausalTransformer` and `VisionTransformer`, of
tokens `[N, T, d]`, the autoregressive `MaskedConvNet`, and `LipschitzNet`, which is for residual
flows, take a vector as context, as `GraphNet` may: its size is an argument. Build a network before
a bijector takes it: `build_network(network, shape)`.
"""

from tfflows.networks.attention_net import AttentionNet
from tfflows.networks.building import as_module, build_network
from tfflows.networks.causal_transformer import CausalTransformer
from tfflows.networks.conv_net import ConvNet
from tfflows.networks.dense_net import DenseNet
from tfflows.networks.deterministic import Deterministic
from tfflows.networks.gated_res_net import GatedResNet
from tfflows.networks.graph_net import GraphNet
from tfflows.networks.lipschitz import CappedConv2D, LipschitzNet, LipSwish
from tfflows.networks.masked_conv_net import MaskedConvNet
from tfflows.networks.mlp import MLP, MaskedMLP
from tfflows.networks.one_hot import OneHot
from tfflows.networks.vision_transformer import VisionTransformer

__all__ = [
    "MLP",
    "AttentionNet",
    "CappedConv2D",
    "CausalTransformer",
    "ConvNet",
    "DenseNet",
    "Deterministic",
    "GatedResNet",
    "GraphNet",
    "LipSwish",
    "LipschitzNet",
    "MaskedConvNet",
    "MaskedMLP",
    "OneHot",
    "VisionTransformer",
    "as_module",
    "build_network",
]
