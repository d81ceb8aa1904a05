"""Pictures of samples of which some are NaN, as an inverse that did not converge returns them."""

import numpy as np
import pytest
from absl import logging
from matplotlib.figure import Figure
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


def test_a_curve_shows_where_it_ends_and_which_weights_were_kept(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *args, **kw: seen.append(figure.axes[0]))
    losses = [3e19, 8.0, None, 4.0, 3.9, 3.8]  # None: a report that was not finite.
    lines = [{"step": i, "nats": loss, "val_nats": 4.0} for i, loss in enumerate(losses)]
    pictures.save_curve(tmp_path / "a.png", lines, kept=4)
    pictures.save_curve(tmp_path / "a.png", lines[:1])
    assert seen[0].get_ylim()[1] == pytest.approx(3.8 + 10 * 0.2)
    labels = [text.get_text() for text in seen[0].get_legend().get_texts()]
    assert labels == ["training", "validation", "weights kept"]
    assert seen[1].get_ylim()[1] > 3e19
