"""Normalizing flows as `tfp.bijectors.Bijector`s; `forward` maps data to latents."""

from tfflows.bijectors import transforms, triangular
from tfflows.bijectors.act_norm import ActNorm
from tfflows.bijectors.autoregressive import Autoregressive
from tfflows.bijectors.contractions import NormalCDFContraction, TanhContraction
from tfflows.bijectors.conv_exponential import ConvExponential
from tfflows.bijectors.conv_sylvester import ConvSylvester
from tfflows.bijectors.coupling import Coupling
from tfflows.bijectors.dual_affine_coupling import DualAffineCoupling
from tfflows.bijectors.emerging_conv import EmergingConv
from tfflows.bijectors.flip import Flip
from tfflows.bijectors.graph_conv_exponential import GraphConvExponential
from tfflows.bijectors.invertible_conv1x1 import InvertibleConv1x1
from tfflows.bijectors.matvec_exponential import MatvecExponential
from tfflows.bijectors.multi_scale import MultiScale
from tfflows.bijectors.patchify import Patchify, order_tokens
from tfflows.bijectors.periodic_conv import PeriodicConv
from tfflows.bijectors.preprocessing import LogitImage, NormalizeColumns, NormalizeImage
from tfflows.bijectors.rational_quadratic_activation import RationalQuadraticActivation
from tfflows.bijectors.residual_flow import ResidualFlow
from tfflows.bijectors.sequential import Block, Repeat, Sequential
from tfflows.bijectors.squeeze import Squeeze
from tfflows.bijectors.strided_conv import StridedConv
from tfflows.bijectors.sylvester import Sylvester
from tfflows.bijectors.whitening import Whitening
from tfflows.bijectors.woodbury_conv import WoodburyConv
from tfflows.evaluation.flow_bijector import FlowBijector

__all__ = [
    "ActNorm",
    "Autoregressive",
    "Block",
    "ConvExponential",
    "ConvSylvester",
    "Coupling",
    "DualAffineCoupling",
    "EmergingConv",
    "Flip",
    "FlowBijector",
    "GraphConvExponential",
    "InvertibleConv1x1",
    "LogitImage",
    "MatvecExponential",
    "MultiScale",
    "NormalCDFContraction",
    "NormalizeColumns",
    "NormalizeImage",
    "Patchify",
    "PeriodicConv",
    "RationalQuadraticActivation",
    "Repeat",
    "ResidualFlow",
    "Sequential",
    "Squeeze",
    "StridedConv",
    "Sylvester",
    "TanhContraction",
    "Whitening",
    "WoodburyConv",
    "order_tokens",
    "transforms",
    "triangular",
]
