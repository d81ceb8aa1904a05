"""Pictures of samples of which some are NaN, as an inverse that did not converge returns them."""

import numpy as np
import pytest
import tensorflow_probability as tfp
from absl import logging
from absl.testing import flagsaver
from PIL import Image

import zoo
from tfflows import distributions
from trainers import pictures, sample

tfd = tfp.distributions


def failing(shape, loc):
    """A density whose samples are logarithms: NaN of what the base has below 0."""
    base = tfd.Sample(tfd.Normal(loc, 1.0), shape)
    model = tfd.TransformedDistribution(base, tfp.bijectors.Invert(tfp.bijectors.Exp()))
    return distributions.Dequantized(model, num_levels=16) if len(shape) == 3 else model


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


def draw(model, monkeypatch, output):
    """Runs `trainers.sample` with `model` in the place of a preset's."""
    trained = zoo.Trained(model, zoo.find("glow.digits"), "digits", output.parent)
    monkeypatch.setattr(sample.command_line, "open_model", lambda: (trained, None))
    with flagsaver.flagsaver(model="a preset", output=str(output), count=20):
        sample.main(["binary"])


@pytest.mark.parametrize(("loc", "said"), [(1.0, " of 20 samples at"), (50.0, "\n20 samples at")])
def test_sample_says_how_many_are_in_the_picture(loc, said, tmp_path, monkeypatch, capsys):
    draw(failing((2, 2, 1), loc), monkeypatch, tmp_path / "samples.png")
    assert said in f"\n{capsys.readouterr().out}"
    assert (tmp_path / "samples.png").exists()


def test_sample_fails_if_all_samples_are_nan(tmp_path, monkeypatch):
    with pytest.raises(ArithmeticError, match="All 20 samples are NaN"):
        draw(failing((2, 2, 1), -50.0), monkeypatch, tmp_path / "samples.png")
