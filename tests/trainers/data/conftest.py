"""Data sets of images."""

import numpy as np
import pytest
import tensorflow_datasets as tfds

from tests.trainers.data.image_sets import save
from trainers.data import batching, image_paths


@pytest.fixture
def npz(tmp_path):
    """Saves arrays and returns the name to load them by."""

    def save(**arrays):
        np.savez(tmp_path / "images.npz", **arrays)
        return str(tmp_path / "images.npz")

    return save


@pytest.fixture
def numbered(npz):
    """23 images of one pixel whose value is their index."""
    return npz(train=np.arange(23, dtype=np.uint8).reshape(23, 1, 1, 1))


@pytest.fixture
def folder(tmp_path):
    """Seven numbered PNGs, which need not be held in memory."""
    for i in range(7):
        save(tmp_path / f"{i}.png", np.full([2, 3], i, np.uint8))
    return str(tmp_path)


@pytest.fixture
def streaming(monkeypatch):
    """Holds nothing in memory."""
    monkeypatch.setattr(batching, "HELD_BYTES", 0)


class TrainersTestPictures(tfds.core.GeneratorBasedBuilder):
    """A TFDS set that is made here: grey images and, in the split `uneven`, one of another size."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        features = {"scan": tfds.features.Image(shape=(None, None, 1)), "label": np.int64}
        return self.dataset_info_from_configs(features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        even = [(4, 6, 1)] * 9
        return {"train": self._examples(even), "uneven": self._examples([*even, (4, 5, 1)])}

    def _examples(self, shapes):
        for i, shape in enumerate(shapes):
            yield i, {"scan": np.full(shape, i, np.uint8), "label": i}

    def _generate_examples(self):
        raise NotImplementedError


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """The directory of a prepared TFDS set."""
    data_dir = str(tmp_path_factory.mktemp("tfds"))
    TrainersTestPictures(data_dir=data_dir).download_and_prepare()
    return data_dir


@pytest.fixture(autouse=True)
def said_anew():
    """What is left out is said once a process."""
    image_paths.say.cache_clear()
