"""Sides of images that shrink to nothing."""

import pytest

import zoo

IMAGES = "glow.digits balanced.digits sylvester.digits convexp_glow.digits realnvp.digits"


@pytest.mark.parametrize("name", [*IMAGES.split(), "emerging_glow.cifar10"])
@pytest.mark.parametrize(
    "shape",
    [(6, 6, 1), (2, 2, 1), (1, 1, 1), (0, 8, 1), (8, 8, 0), (8, 8), (-8, 8, 1), (8.0, 8, 1), "88"],
)
def test_sides_that_shrink_to_nothing(name, shape):
    if name == "realnvp.digits" and shape in ((6, 6, 1), (2, 2, 1)):
        return  # One level less.
    with pytest.raises(ValueError, match=r"`image_shape` must be \(height.*image_shape=") as error:
        zoo.create(name, image_shape=shape)
    assert "Take fewer levels, or pad or resize the images" in str(error.value)
