"""Records of layers: inputs, outputs, log-dets, the first that is not finite."""

import numpy as np

from tests.tfflows.small_flows import images, parts
from tfflows import analysis, bijectors


def test_observers_see_inputs_outputs_and_log_dets():
    flow = bijectors.Sequential(parts())
    x = images()
    records = analysis.record_layers(flow, x)
    assert [r.bijector for r in records] == [*flow.bijectors, flow]
    for before, after in zip(records, records[1:-1], strict=False):
        assert after.input is before.output
    whole = records[-1]
    np.testing.assert_array_equal(whole.output, records[-2].output)
    np.testing.assert_allclose(whole.log_det, sum(r.log_det for r in records[:-1]), rtol=1e-6)


def test_first_non_finite_layer_is_found():
    layers = parts()
    flow, x = bijectors.Sequential(layers), images()
    assert analysis.first_non_finite(flow, x) is None
    layers[2].network.layers[0].bias.assign(np.full(4, np.nan))
    assert analysis.first_non_finite(flow, x).bijector is layers[2]
