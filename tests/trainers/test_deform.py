"""trainers.deform: panels in the order of the flow, domains that hold them, and the picture."""

import dataclasses
import json
import pathlib

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
from absl.testing import flagsaver
from PIL import Image

import zoo
from tfflows import bijectors, distributions
from tfflows.bijectors import transforms
from trainers import deform
from trainers.data import planar

tfb = tfp.bijectors
tfd = tfp.distributions

POINTS = planar.sample("checkerboard", 2000, seed=0)


def model(*layers, event_shape=(2,)):
    base = distributions.standard_normal(event_shape)
    return tfd.TransformedDistribution(base, tfb.Invert(bijectors.Sequential(layers)))


def scales(*factors):
    """A block for each factor."""
    return [bijectors.Block([tfb.Scale(factor), tfb.Shift(1.0)]) for factor in factors]


def coupling(shape):
    """Moves the second coordinate by the first."""
    return bijectors.Coupling(lambda a: tf.concat([a, a], -1), shape, transforms.Affine())


def opened(path):
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


# What panels show.


def test_panels_are_the_blocks_in_order():
    stages = deform.stages(model(*scales(2.0, 3.0)), POINTS, panels=8)
    assert list(stages) == ["block 1", "latents"]
    np.testing.assert_allclose(stages["block 1"], 2 * POINTS + 1, rtol=1e-6)
    np.testing.assert_allclose(stages["latents"], 6 * POINTS + 4, rtol=1e-5)


@pytest.mark.parametrize(
    "panels, numbers", [(1, []), (2, [2]), (3, [1, 3]), (4, [1, 2, 3]), (5, [1, 2, 3, 4])]
)
def test_panels_are_evenly_spaced(panels, numbers):
    stages = deform.stages(model(*scales(*[2.0] * 5)), POINTS, panels)
    assert list(stages) == [*(f"block {n}" for n in numbers), "latents"]
    for n in numbers:
        np.testing.assert_allclose(stages[f"block {n}"], 2**n * POINTS + 2**n - 1, rtol=1e-4)


def test_latents_are_those_of_the_model():
    flow = model(tfb.Shift(2.0), *scales(2.0, 0.5), tfb.Scale([5.0, 7.0]))
    latents = deform.stages(flow, POINTS, 8)["latents"]
    np.testing.assert_allclose(latents, flow.bijector.inverse(POINTS), rtol=1e-5)


def test_events_may_be_images_within_the_flow():
    reshape = tfb.Reshape(event_shape_out=[1, 1, 2], event_shape_in=[2])
    flow = model(reshape, bijectors.Block([coupling([1, 1, 2])]), *scales(2.0), tfb.Invert(reshape))
    stages = deform.stages(flow, POINTS, 8)
    assert {name: value.shape for name, value in stages.items()} == {
        "block 1": (2000, 2),
        "latents": (2000, 2),
    }
    np.testing.assert_allclose(stages["latents"], 2 * stages["block 1"] + 1, rtol=1e-6)


def test_without_blocks_panels_are_couplings_or_else_layers():
    flow = model(tfb.Scale(2.0), coupling([2]), tfb.Scale(3.0), coupling([2]))
    assert list(deform.stages(flow, POINTS, 8)) == ["coupling 1", "latents"]
    flow = tfd.TransformedDistribution(
        distributions.standard_normal([2]), tfb.Chain([tfb.Scale(0.5), tfb.Shift(1.0)])
    )
    stages = deform.stages(flow, POINTS, 8)
    assert list(stages) == ["layer 1", "latents"]
    np.testing.assert_allclose(stages["layer 1"], 2 * POINTS, rtol=1e-6)


# Domains.


def test_magnifications_of_a_linear_flow():
    stages = deform.stages(model(*scales(2.0, 3.0, 0.01, 1234.0)), POINTS, 8)
    _, magnifications = deform.domains([POINTS, *stages.values()])
    np.testing.assert_array_equal(magnifications, [1, 2, 6, 0.06, 74])


def test_squares_hold_the_points_and_have_the_stated_size():
    values = [POINTS, POINTS * [0.1, 2.3456] + [50, 0], POINTS * 1e-3]
    squares, magnifications = deform.domains(values)
    left, right, bottom, top = squares.T
    np.testing.assert_allclose(right - left, magnifications * (right - left)[0])
    np.testing.assert_allclose(right - left, top - bottom)
    for (x, y), square in zip([v.T for v in values], squares, strict=True):
        inside = (x > square[0]) & (x < square[1]) & (y > square[2]) & (y < square[3])
        assert inside.mean() > 0.99


def test_a_stray_point_does_not_set_the_domain():
    values = np.vstack([POINTS, [[1e6, 0]]])
    _, magnifications = deform.domains([POINTS, values[1:]])
    np.testing.assert_array_equal(magnifications, [1, 1])


# Density and picture.


def test_density_is_that_of_the_model():
    flow = model(tfb.Shift([-1.0, 0.0]), tfb.Scale(2.0))
    image = deform.density(flow, [-3, 3, -3, 3])
    assert image.shape == (256, 256)
    assert image.sum() * (6 / 256) ** 2 == pytest.approx(1, abs=1e-3)
    row, column = np.unravel_index(image.argmax(), image.shape)
    assert (row, column) == pytest.approx((127.5, 170.2), abs=1)


def test_networks_see_one_batch_dimension(tmp_path):
    masked = tfb.AutoregressiveNetwork(params=2, event_shape=[2], hidden_units=[4])
    flow = model(bijectors.Block([tfb.Invert(tfb.MaskedAutoregressiveFlow(masked))]))
    assert np.isfinite(deform.density(flow, [-3, 3, -3, 3])).all()
    assert deform.save_figure(tmp_path / "maf.png", flow, POINTS).keys() == {"data", "latents"}


def test_picture_has_a_panel_for_each_step(tmp_path):
    flow = model(*scales(2.0, 3.0, 0.5))
    widths = {}
    for panels in (1, 3):
        path = tmp_path / "new" / f"{panels}.png"
        magnifications = deform.save_figure(path, flow, POINTS, panels)
        height, widths[panels], _ = opened(path).shape
        assert height > 200
        assert len(np.unique(opened(path).reshape(-1, 3), axis=0)) > 500
    assert magnifications == {"data": 1, "block 1": 2, "block 2": 6, "latents": 3}
    assert widths[3] * 3 == widths[1] * 5


def test_colors_follow_the_direction_of_the_data():
    angles = np.linspace(0, 2 * np.pi, 100, endpoint=False)
    found = deform.colors(np.stack([np.cos(angles), np.sin(angles)], axis=-1))
    assert found.shape == (100, 3)
    assert found.min() >= 0
    assert found.max() <= 1
    assert np.abs(np.diff(found, axis=0, append=found[:1])).max() < 0.1


# Errors.


def test_wrong_arguments():
    images = model(tfb.Scale(2.0), event_shape=[8, 8, 1])
    with pytest.raises(ValueError, match=r"`model` must have events of shape \[2\].*\(8, 8, 1\)"):
        deform.save_figure("unused.png", images, POINTS)
    with pytest.raises(ValueError, match=r"`points` must be \[N, 2\].*\(5, 3\)"):
        deform.stages(model(tfb.Scale(2.0)), np.zeros([5, 3]), 8)
    with pytest.raises(ValueError, match=r"`panels` must be positive.*panels=0"):
        deform.stages(model(tfb.Scale(2.0)), POINTS, 0)


# The binary.


@pytest.fixture
def created(monkeypatch):
    """Stands for a trained model."""
    entry, density = zoo.find("realnvp.two_moons"), model(*scales(2.0, 3.0))

    def open_trained(name, dataset=None):
        return zoo.Trained(density, entry, dataset or entry.recipe.dataset, pathlib.Path(name))

    monkeypatch.setattr("zoo.open_trained", open_trained)


def test_binary_draws_the_data_it_is_told(created, tmp_path, capsys):
    output = str(tmp_path / "a.png")
    with flagsaver.flagsaver(model="any", dataset="rings", output=output, points=500, panels=1):
        deform.main(["binary"])
    assert capsys.readouterr().out == f"data 1 x, latents 6 x\nDeformation of rings: {output}\n"
    assert opened(output).any()


def test_binary_draws_the_data_of_a_run(created, tmp_path, capsys):
    (tmp_path / "preset").mkdir()
    (tmp_path / "config.json").write_text(
        json.dumps({"model": "-", "arguments": {}, "seed": 0, "recipe": {"dataset": "spirals"}})
    )
    with flagsaver.flagsaver(workdir=str(tmp_path), points=500):
        deform.main(["binary"])
    assert f"spirals: {tmp_path / 'deformation.png'}" in capsys.readouterr().out
    assert (tmp_path / "deformation.png").is_file()


def test_binary_refuses_other_data(created):
    with (
        flagsaver.flagsaver(model="any", dataset="digits"),
        pytest.raises(ValueError, match=r"`name` must be one of .*'digits'"),
    ):
        deform.main(["binary"])


def test_binary_refuses_models_of_images():
    with (
        flagsaver.flagsaver(model="glow.digits"),
        pytest.raises(ValueError, match=r"`model` must have events of shape \[2\].*\(8, 8, 1\)"),
    ):
        deform.main(["binary"])


def test_binary_refuses_conditional_models(monkeypatch):
    entry = zoo.find("maf.two_moons")
    entry = dataclasses.replace(entry, arguments={**entry.arguments, "context_size": 3})
    trained = zoo.Trained(entry.build(num_blocks=1), entry, "two_moons", pathlib.Path())
    monkeypatch.setattr("zoo.open_trained", lambda name: trained)
    with (
        flagsaver.flagsaver(model="any"),
        pytest.raises(ValueError, match="must not be conditional.*maf.two_moons.*of size 3"),
    ):
        deform.main(["binary"])
