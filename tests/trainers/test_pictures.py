"""Pictures of samples of which some are NaN, as an inverse that did not converge returns them."""

import numpy as np
import pytest
from absl import logging
from PIL import Image

from tests.trainers.failing_models import failing
from trainers import pictures


@pytest.mark.parametrize("shape", [(2, 2, 1), (2, 2), (2,)])
def test_samples_that_are_nan_are_left_out_with_a_warning(shape, tmp_path, caplog):
    logging.use_python_logging()
    model = failing(shape, loc=1.0)
    drawn = pictures.sampler(model, seed=3, count=20)(tmp_path / "samples.png")
    density = model.distribution if len(shape) == 3 else model
    failed = np.isnan(density.sample(20, seed=[3, 1])).any(axis=tuple(range(1, 1 + len(shape))))
    assert 0 < drawn == 20 - failed.sum() < 20
    assert f"{20 - drawn} of 20 samples are NaN" in caplog.text
    assert np.asarray(Image.open(tmp_path / "samples.png")).size


def test_there_is_no_picture_if_all_samples_are_nan(tmp_path, caplog):
    logging.use_python_logging()
    model = failing((2, 2, 1), loc=-50.0)
    assert pictures.sampler(model, seed=3, count=4)(tmp_path / "samples.png") == 0
    assert "4 of 4 samples are NaN" in caplog.text
    assert not (tmp_path / "samples.png").exists()
