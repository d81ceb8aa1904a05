"""`DualAffineCoupling`: two affine couplings, so that one layer moves every entry."""

from collections.abc import Iterable

import tensorflow as tf

from tfflows.bijectors.coupling import Coupling
from tfflows.bijectors.transforms import Affine, MexicanHatScale
from tfflows.evaluation.flow_bijector import FlowBijector
from tfflows.numerics.parameters import as_context
from tfflows.types import DTypeLike, KnownShape, Network, TensorFunction, TensorLike


class DualAffineCoupling(FlowBijector):
    """Dual affine coupling, Liao and He (2021), equation 14.

        y_1 = s_1(x_2) x_1 + t_1(x_2),     x_1 the first `split_size` channels
        y_2 = s_2(y_1) x_2 + t_2(y_1)
        log-det:  sum log s_1 + sum log s_2

    By default `s` is a `MexicanHatScale`, bounded by [0.640, 2.718]; the networks then return
    `1 + M` channels for each that they move: first all shifts, then the inputs of the hats.

    Args:
      networks: two callables, such as built Keras layers. The first sees the last channels and
        moves the first ones, the second the other way round.
      event_shape: shape of an event, fully known.
      split_size: number of channels of `x_1`; by default half, rounded down.
      scale: see `transforms.Affine`; by default `MexicanHatScale()`.
      gain: factor on what the networks return, see `transforms.Affine`.
      conditional: whether the networks take a context, which `tfflows.condition` binds.
      context: the context itself, see `Coupling`.
      context_ndims: rank of the context's events; by default that of `event_shape`.
      dtype: dtype of the events.
      validate_args: see `tfb.Bijector`.
      name: name of the bijector.

    #### Example

    ```python
    import tensorflow as tf
    from tfflows import bijectors, networks

    nets = [networks.build_network(networks.MLP(2 * 5, seed=seed), [2]) for seed in (1, 2)]
    flow = bijectors.DualAffineCoupling(nets, event_shape=[4])  # 1 + 4 outputs an entry
    flow.forward(tf.ones([3, 4])).shape  # [3, 4]
    ```

    #### References

    Liao, He, *Jacobian Determinant of Normalizing Flows*, 2021, arXiv:2102.06539.
    """

    is_unit = True
    guidable = ("networks",)

    def __init__(
        self,
        networks: Iterable[Network],
        event_shape: KnownShape,
        *,
        split_size: int | None = None,
        scale: str | TensorFunction | None = None,
        gain: float = 1.0,
        conditional: bool = False,
        context: TensorLike | None = None,
        context_ndims: int | None = None,
        dtype: DTypeLike = tf.float32,
        validate_args: bool = False,
        name: str = "dual_affine_coupling",
    ) -> None:
        context = as_context(context, dtype)
        parameters = dict(locals())
        networks = list(networks)
        if len(networks) != 2:
            raise ValueError(f"`networks` must be two. Received: {len(networks)}.")
        channels = tf.TensorShape(event_shape).as_list()[-1]
        first = channels // 2 if split_size is None else split_size
        self._couplings = [
            Coupling(
                network,
                event_shape,
                Affine(MexicanHatScale() if scale is None else scale, gain),
                split_size=kept,
                reverse=reverse,
                conditional=conditional,
                context=context,
                context_ndims=context_ndims,
                dtype=dtype,
                name=f"{name}_{number}",
            )
            for number, (network, kept, reverse) in enumerate(
                zip(networks, (channels - first, first), (True, False), strict=True), start=1
            )
        ]
        self._context_ndims = self._couplings[0]._context_ndims
        super().__init__(
            forward_min_event_ndims=self._couplings[0].forward_min_event_ndims,
            event_shape=tuple(tf.TensorShape(event_shape).as_list()),
            dtype=dtype,
            validate_args=validate_args,
            parameters=parameters,
            name=name,
        )

    @classmethod
    def _parameter_properties(cls, dtype):
        return Coupling.parameter_properties(dtype)

    @property
    def context_shape(self) -> list[int | None]:
        """Shape of an event of the context, `None` where any size will do."""
        return self._couplings[0].context_shape

    @property
    def couplings(self) -> list[Coupling]:
        """The two `Coupling`s, in the order in which `forward` applies them."""
        return list(self._couplings)

    # The couplings are called past `observe_layers`: what watches a flow sees one layer, not three.

    def _forward_and_log_det(self, x):
        first, second = self._couplings
        y, first_log_det = first._forward_and_log_det(x)
        y, second_log_det = second._forward_and_log_det(y)
        return y, first_log_det + second_log_det

    def _inverse_and_log_det(self, y):
        first, second = self._couplings
        x, second_log_det = second._inverse_and_log_det(y)
        x, first_log_det = first._inverse_and_log_det(x)
        return x, first_log_det + second_log_det
