"""Arguments of presets are checked and bounded."""

import json
import math
import time

import pytest

import zoo
from tests.zoo.strange_presets import configure, refused
from zoo import registry
from zoo.storage import limits


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"widths": [10**6, 10**6]}, "`widths` must have numbers of at most 4096"),
        ({"widths": [4096, 4096]}, r"at most 152 variables of 3144 parameters in all"),
        ({"steps": [4000, 4000]}, r"at most 152 variables of 3144 parameters in all"),
        ({"steps": [1] * 100}, "`steps` must have fewer levels"),
        ({"steps": [1] * 12}, "at most 4096 channels in the last level"),
        ({"image_shape": [10**4, 10**4, 3]}, "`image_shape` must have numbers of at most"),
        ({"image_shape": [4096, 4096, 5]}, "`image_shape` must be three positive integers"),
        ({"image_shape": [4, 4, -1]}, "`image_shape` must be three positive integers"),
        ({"image_shape": "444"}, r"`image_shape` must be of the kind of \(8, 8, 1\)"),
        ({"num_levels": math.nan}, "`num_levels` must have numbers of at most"),
        ({"num_levels": 10**400}, "`num_levels` must have numbers of at most"),
        ({"num_levels": True}, "`num_levels` must be of the kind of 17. Received: num_levels=True"),
        ({"mixing": "x" * 101}, "`mixing` must be shorter"),
        ({"mixing": {"class_name": "__lambda__"}}, "`mixing` must be of the kind of 'conv1x1'"),
        ({"num_bins": {"class_name": "__lambda__"}}, "`num_bins` must not be an object"),
        ({"strange": 1}, "`arguments` of 'glow.digits' must be among"),
        ({"widths": ["4", "4"]}, "must describe a model of the zoo"),
    ],
    ids=lambda value: "" if isinstance(value, str) else next(iter(value)),
)
def test_arguments_are_checked_and_bounded(preset, arguments, match):
    configure(preset, **arguments)
    start = time.process_time()
    refused(preset, match)
    assert time.process_time() - start < 60


@pytest.mark.parametrize("name", zoo.list_models())
def test_every_model_of_the_zoo_is_within_the_bounds(name):
    entry = registry.find(name)
    limits.check_arguments(entry, json.loads(json.dumps(dict(entry.arguments))))


def test_a_model_that_was_refused_leaves_keras_as_it_was(preset, whole):
    configure(preset, widths=[64, 64])
    refused(preset, "parameters in all")
    assert zoo.load(str(whole)).event_shape == (4, 4, 1)
