"""Names of variables."""

import tfflows
from tests.tfflows.small_flows import coupling
from tfflows import bijectors


def test_variables_have_names_that_follow_from_the_structure():
    flow = bijectors.Sequential([bijectors.ActNorm.trainable([None, None, 4]), coupling()])
    named = tfflows.variables.named_variables(flow)
    assert len(named) == len(flow.variables) == 8
    other = bijectors.Sequential(
        [bijectors.ActNorm.trainable([None, None, 4], name="other"), coupling(7)]
    )
    assert list(tfflows.variables.named_variables(other)) == list(named)
    assert named["bijectors/0/shift"] is flow.bijectors[0].variables[1] or (
        named["bijectors/0/shift"] is flow.bijectors[0].variables[0]
    )
