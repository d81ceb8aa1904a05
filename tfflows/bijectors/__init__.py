"""Normalizing flows as `tfp.bijectors.Bijector`s; `forward` maps data to latents."""

from tfflows.bijectors.act_norm import ActNorm
from tfflows.bijectors.affine_coupling import AffineCoupling
from tfflows.bijectors.conv_exponential import ConvExponential
from tfflows.bijectors.flip import Flip
from tfflows.bijectors.flow_bijector import (
    FlowBijector,
    forward_and_log_det,
    initialize,
    inverse_and_log_det,
    observe_layers,
)
from tfflows.bijectors.invertible_conv1x1 import InvertibleConv1x1
from tfflows.bijectors.matvec_exponential import MatvecExponential, operator_norm_bound
from tfflows.bijectors.multi_scale import MultiScale
from tfflows.bijectors.preprocessing import LogitImage, NormalizeImage
from tfflows.bijectors.sequential import Sequential
from tfflows.bijectors.squeeze import Squeeze

__all__ = [
    "ActNorm",
    "AffineCoupling",
    "ConvExponential",
    "Flip",
    "FlowBijector",
    "InvertibleConv1x1",
    "LogitImage",
    "MatvecExponential",
    "MultiScale",
    "NormalizeImage",
    "Sequential",
    "Squeeze",
    "forward_and_log_det",
    "initialize",
    "inverse_and_log_det",
    "observe_layers",
    "operator_norm_bound",
]
