"""trainers.data: each image once an epoch, the same order in every run, and errors that help."""

import time
import zlib

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from PIL import Image
from sklearn import datasets

from trainers.data import batching, loading

RNG = np.random.default_rng(0)


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
        save_image(tmp_path / f"{i}.png", np.full([2, 3], i, np.uint8))
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


def save_image(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def batches(name, split="train", *, count=None, **kwargs):
    dataset = loading.load(name, split, **kwargs).dataset
    return list((dataset if count is None else dataset.take(count)).as_numpy_iterator())


def images(name, split="train", **kwargs):
    return np.concatenate(batches(name, split, batch_size=4, **kwargs))


# What is trained on, and what scores reports: never the test split.


def test_reports_score_the_validation_split():
    assert loading.divide("digits", 1000) == ("train", "validation[0:200]")
    assert loading.divide("digits", 25, replicas=2) == ("train", "validation[0:24]")
    assert loading.divide("digits", 0) == ("train", None)


def test_without_one_the_end_of_the_training_split_is_held_out(numbered, monkeypatch):
    monkeypatch.setattr(loading, "is_shuffled", lambda *args: True)
    monkeypatch.setattr(loading, "has_split", lambda *args: False)
    train, scored = loading.divide(numbered, 1000)
    assert (train, scored) == ("train[:21]", "train[21:23]")
    assert images(numbered, train).ravel().tolist() == list(range(21))
    assert images(numbered, scored).ravel().tolist() == [21, 22]
    assert loading.divide(numbered, 1000, replicas=4) == ("train[:21]", None)


def test_images_in_the_order_of_their_classes_are_all_trained_on(numbered):
    assert loading.divide(numbered, 1000) == ("train", None)


def test_tfds_sets_are_in_random_order(prepared):
    assert loading.is_shuffled("trainers_test_pictures", prepared)
    assert not loading.is_shuffled("digits", None)


# Order.


def test_stored_order_and_last_batch(numbered):
    found = batches(numbered, batch_size=5)
    assert [len(batch) for batch in found] == [5, 5, 5, 5, 3]
    np.testing.assert_array_equal(np.concatenate(found).ravel(), np.arange(23))


@pytest.mark.parametrize("streamed", [False, True])
def test_every_epoch_has_each_image_once_in_a_new_order(folder, streamed, request):
    if streamed:
        request.getfixturevalue("streaming")
    found = np.concatenate(batches(folder, batch_size=4, count=7, shuffle_seed=3, repeat=True))
    epochs = found[:, 0, 0, 0].reshape(4, 7)
    np.testing.assert_array_equal(np.sort(epochs), np.tile(np.arange(7), (4, 1)))
    assert len({tuple(epoch) for epoch in epochs}) == 4


def test_order_depends_on_the_seed_alone(numbered):
    first = images(numbered, shuffle_seed=1)
    np.testing.assert_array_equal(first, images(numbered, shuffle_seed=1))
    assert (first != images(numbered, shuffle_seed=2)).any()
    assert sorted(first.ravel()) == list(range(23))


def test_streamed_order_ignores_the_global_seed(folder, streaming):
    tf.random.set_seed(1)
    dataset = loading.load(folder, "train", batch_size=7, shuffle_seed=0).dataset
    first = next(dataset.as_numpy_iterator())
    tf.random.set_seed(2)
    np.testing.assert_array_equal(first, next(dataset.as_numpy_iterator()))
    np.testing.assert_array_equal(first, batches(folder, batch_size=7, shuffle_seed=0)[0])


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("seed", [None, 5])
def test_start_step_continues_the_run(folder, streamed, seed, request):
    if streamed:
        request.getfixturevalue("streaming")
    kwargs = {"batch_size": 3, "shuffle_seed": seed, "repeat": True, "flip": seed is not None}
    unbroken = batches(folder, count=10, **kwargs)
    resumed = batches(folder, count=5, start_step=5, **kwargs)
    np.testing.assert_array_equal(unbroken[5:], resumed)


def test_start_step_within_one_pass(numbered):
    whole = batches(numbered, batch_size=5, shuffle_seed=1)
    resumed = batches(numbered, batch_size=5, shuffle_seed=1, start_step=3)
    assert [len(batch) for batch in resumed] == [5, 3]
    np.testing.assert_array_equal(whole[3], resumed[0])
    assert batches(numbered, batch_size=5, start_step=5) == []


def test_flip_mirrors_about_half_and_changes_nothing_else(npz):
    pixels = RNG.integers(0, 256, [200, 2, 3, 1], np.uint8)
    kwargs = {"batch_size": 200, "shuffle_seed": 1}
    plain = batches(npz(train=pixels), **kwargs)[0]
    found = batches(npz(train=pixels), flip=True, **kwargs)[0]
    mirrored = (found == plain[:, :, ::-1]).all((1, 2, 3))
    assert (mirrored | (found == plain).all((1, 2, 3))).all()
    assert 70 < mirrored.sum() < 130


def test_flips_differ_between_batches(npz):
    pixels = np.tile(np.array([0, 1], np.uint8), (64, 1, 1))[..., np.newaxis]
    kwargs = {"batch_size": 64, "shuffle_seed": 1, "flip": True, "repeat": True}
    first, second = batches(npz(train=pixels), count=2, **kwargs)
    assert (first != second).any()


def test_successive_orders_are_uncorrelated(npz):
    name = npz(train=np.arange(40000, dtype=np.uint16).view(np.uint8).reshape(40000, 1, 2, 1))
    found = np.stack(batches(name, batch_size=40000, count=9, shuffle_seed=0, repeat=True))
    orders = found.reshape(9, -1).view(np.uint16).astype(np.float64)
    correlations = np.corrcoef(orders)[np.triu_indices(9, 1)]
    assert np.abs(correlations).max() * 200 < 5  # Standard deviations.


def test_shapes_are_static(numbered):
    def shape(**kwargs):
        return loading.load(numbered, "train", **kwargs).dataset.element_spec.shape.as_list()

    assert shape(batch_size=5) == [None, 1, 1, 1]
    assert shape(batch_size=5, drop_remainder=True) == [5, 1, 1, 1]
    assert shape(batch_size=5, repeat=True, flip=True, shuffle_seed=0) == [5, 1, 1, 1]
    assert shape(batch_size=23) == [23, 1, 1, 1]


def test_cardinality(numbered):
    def cardinality(**kwargs):
        return loading.load(numbered, "train", batch_size=5, **kwargs).dataset.cardinality()

    assert cardinality(repeat=True) == tf.data.INFINITE_CARDINALITY
    assert cardinality() == 5
    assert cardinality(start_step=3) == 2
    assert cardinality(start_step=9) == 0
    assert cardinality(drop_remainder=True, start_step=1) == 3
    assert len(batches(numbered, batch_size=5, drop_remainder=True, start_step=1)) == 3


def test_replicas_share_the_global_batch(numbered):
    devices = [device.name for device in tf.config.list_logical_devices("CPU")]
    strategy = tf.distribute.MirroredStrategy(devices)
    dataset = loading.load(numbered, "train", batch_size=6, shuffle_seed=0, repeat=True).dataset
    shared = next(iter(strategy.experimental_distribute_dataset(dataset)))
    parts = strategy.experimental_local_results(shared)
    np.testing.assert_array_equal(np.concatenate(parts), next(iter(dataset)))
    assert {len(part) for part in parts} == {6 // len(devices)}


# Sources.

DIGITS_CRC32 = {"train": 3040837216, "validation": 1722808055, "test": 2611208476}


def test_digits_are_divided_once_and_for_all():
    sizes = {"train": 1197, "validation": 200, "test": 400}
    splits = {split: images("digits", split) for split in sizes}
    assert {split: len(found) for split, found in splits.items()} == sizes
    together = np.concatenate(list(splits.values()))
    everything = datasets.load_digits().images[..., np.newaxis]
    np.testing.assert_array_equal(np.unique(together, axis=0), np.unique(everything, axis=0))
    # Pinned: a changed split would make published figures incomparable.
    assert {split: zlib.crc32(found.tobytes()) for split, found in splits.items()} == DIGITS_CRC32
    opened = loading.load("digits", "test", batch_size=8)
    assert (opened.num_examples, opened.event_shape, opened.num_levels) == (400, (8, 8, 1), 17)


def test_digits_splits_have_every_digit_in_proportion():
    labels = datasets.load_digits()
    stored = {
        image.tobytes(): digit for image, digit in zip(labels.images, labels.target, strict=True)
    }
    test = images("digits", "test").astype(np.float64)[..., 0]
    counts = np.bincount([stored[image.tobytes()] for image in test])
    np.testing.assert_allclose(counts, np.bincount(labels.target) * 400 / 1797, atol=1)


@pytest.mark.parametrize("key", ["train", "images", "anything"])
def test_npz_keys(npz, key):
    pixels = RNG.integers(0, 256, [5, 4, 6, 3], np.uint8)
    np.testing.assert_array_equal(images(npz(**{key: pixels}, labels=np.arange(5))), pixels)


def test_npz_grey_images_of_another_integer_type(npz):
    pixels = RNG.integers(0, 256, [5, 4, 6])
    found = images(npz(test=pixels, train=pixels), "test")
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, pixels[..., np.newaxis])


@pytest.mark.parametrize("split", ["train[:90%]", "train[91%:]", "train[-3:]+test[:1]"])
def test_slices_are_those_of_tfds(npz, split):
    pixels = np.arange(57, dtype=np.uint8).reshape(57, 1, 1, 1)
    name = npz(train=pixels[:50], test=pixels[50:])
    expected = {"train[:90%]": range(45), "train[91%:]": range(46, 50)}
    found = images(name, split).ravel().tolist()
    assert found == list(expected.get(split, [47, 48, 49, 50]))


def test_folder_without_splits_is_train(folder):
    for name in (folder, f"folder:{folder}"):
        opened = loading.load(name, "train[2:]", batch_size=5)
        found = next(opened.dataset.as_numpy_iterator())
        np.testing.assert_array_equal(found[:, 0, 0, 0], [2, 3, 4, 5, 6])
        assert (opened.num_examples, opened.event_shape) == (5, (2, 3, 1))


def test_folder_with_splits_and_nested_jpegs(tmp_path):
    pixels = RNG.integers(0, 256, [3, 16, 16, 3], np.uint8)
    paths = [tmp_path / part for part in ("train/b/0.JPG", "train/a/1.jpg", "test/2.jpeg")]
    for path, image in zip(paths, pixels, strict=True):
        save_image(path, image)
    decoded = [np.asarray(Image.open(path)) for path in paths]
    np.testing.assert_array_equal(images(str(tmp_path)), [decoded[1], decoded[0]])
    np.testing.assert_array_equal(images(str(tmp_path), "test"), [decoded[2]])


@pytest.mark.parametrize(
    ("num_levels", "bits"), [(2, 1), (32, 5), (128, 7), (256, None), (17, None), (1, None)]
)
def test_bits_to_keep_for_the_levels_of_a_model(num_levels, bits):
    assert loading.bits_to_keep(num_levels) == bits


def test_num_bits_keeps_the_highest(npz):
    name = npz(train=np.array([0, 7, 8, 255], np.uint8).reshape(4, 1, 1, 1))
    opened = loading.load(name, "train", batch_size=4, num_bits=5)
    assert opened.num_levels == 32
    assert next(opened.dataset.as_numpy_iterator()).ravel().tolist() == [0, 0, 1, 31]


@pytest.mark.parametrize("streamed", [False, True])
def test_tfds_finds_the_images_and_their_size(prepared, streamed, request):
    if streamed:
        request.getfixturevalue("streaming")
    kwargs = {"batch_size": 9, "data_dir": prepared}
    opened = loading.load("trainers_test_pictures", "train", **kwargs)
    assert (opened.num_examples, opened.event_shape) == (9, (4, 6, 1))
    stored = next(opened.dataset.as_numpy_iterator())
    assert sorted(stored[:, 0, 0, 0]) == list(range(9))
    shuffled = batches("trainers_test_pictures", shuffle_seed=1, **kwargs)[0]
    assert sorted(shuffled[:, 0, 0, 0]) == list(range(9))
    part = batches("trainers_test_pictures", "train[3:5]", **kwargs)[0]
    np.testing.assert_array_equal(part, stored[3:5])


def test_tfds_images_of_different_sizes(prepared):
    with pytest.raises(ValueError, match=r"`trainers_test_pictures`, image \d, must be.*\(4,"):
        loading.load("trainers_test_pictures", "uneven", batch_size=2, data_dir=prepared)


@pytest.mark.data
@pytest.mark.parametrize("streamed", [False, True])
def test_cifar10(streamed, request):
    if streamed:
        request.getfixturevalue("streaming")
    opened = loading.load("cifar10", "test[:200]", batch_size=64)
    assert (opened.num_examples, opened.event_shape, opened.num_levels) == (200, (32, 32, 3), 256)
    stored = tfds.load("cifar10", split="test[:200]", download=False).batch(200)
    expected = next(iter(stored))["image"]
    np.testing.assert_array_equal(np.concatenate(list(opened.dataset)), expected)
    with pytest.raises(ValueError, match="Unknown split 'nothing'"):
        loading.load("cifar10", "nothing", batch_size=64)


# Errors.


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"batch_size": 0}, "`batch_size` must be positive.*batch_size=0"),
        ({"batch_size": 1, "start_step": -1}, "start_step=-1"),
        ({"batch_size": 1, "flip": True}, "`flip` must have a seed"),
        ({"batch_size": 24, "drop_remainder": True}, "hold 24 images or more.*Received: 23"),
        ({"batch_size": 1, "num_bits": 9}, "`num_bits` must be 1 to 8.*num_bits=9"),
        ({"batch_size": 1, "split": "test"}, "`split` must be one.*'test'.*'train'"),
        ({"batch_size": 1, "split": "train[:24]"}, "incompatible with 23 examples"),
        ({"batch_size": 1, "split": "train[:0]"}, "hold 1 images or more.*Received: 0"),
        ({"batch_size": 1, "split": "train["}, r"split 'train\['"),
    ],
)
def test_arguments(numbered, kwargs, message):
    with pytest.raises(ValueError, match=message):
        loading.load(numbered, **{"split": "train", **kwargs})


def test_digits_have_no_bits():
    with pytest.raises(ValueError, match=r"256 levels.*num_levels=17"):
        loading.load("digits", "test", batch_size=1, num_bits=4)


def test_unknown_names_suggest_the_nearest():
    with pytest.raises(ValueError, match=r"'cifarr10'. Did you mean cifar10"):
        loading.load("cifarr10", "train", batch_size=1)
    with pytest.raises(ValueError, match="Did you mean digits"):
        loading.load("digit", "train", batch_size=1)


@pytest.mark.parametrize("name", ["huggingface:mnist", "kubric:nothing"])
def test_namespaces_are_not_looked_up_online(name):
    with pytest.raises(ValueError, match="must be digits"):
        loading.load(name, "train", batch_size=1)


@pytest.mark.parametrize("name", ["cifar10", "mnist", "imagenet_resized/32x32"])
def test_missing_tfds_data_fails_at_once_and_says_how_to_get_it(name, tmp_path):
    start = time.monotonic()
    with pytest.raises(FileNotFoundError) as error:
        loading.load(name, "train", batch_size=1, data_dir=str(tmp_path))
    assert time.monotonic() - start < 5
    assert f"tfds.load('{name}', data_dir='{tmp_path}'" in str(error.value)
    assert "--data_dir" in str(error.value)
    assert not list(tmp_path.iterdir())


def test_the_command_to_prepare_data_is_python(tmp_path):
    with pytest.raises(FileNotFoundError) as error:
        loading.load("cifar10", "train", batch_size=1, data_dir=str(tmp_path))
    compile(str(error.value).split('"')[1], "command", "exec")


def test_tfds_sets_without_images(tmp_path):
    with pytest.raises(ValueError, match=r"`iris` must have one feature of 8-bit images.*label"):
        loading.load("iris", "train", batch_size=1, data_dir=str(tmp_path))


@pytest.mark.parametrize(
    "name", ["/no/where.npz", "/no/where", "folder:/no/where", "folder:digits"]
)
def test_missing_paths(name):
    with pytest.raises(FileNotFoundError, match=name.removeprefix("folder:")):
        loading.load(name, "train", batch_size=1)


PIXELS = np.zeros([2, 4, 4, 3])


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"train": np.where(np.arange(3) == 1, np.nan, PIXELS)}, "dtype=float64, 32 of 96 .* NaN"),
        ({"train": PIXELS.astype(np.float32)}, r"`train`.*dtype=float32.*np.round\(255"),
        ({"images": PIXELS.astype(bool)}, "`images`, must hold integers.*bool"),
        ({"train": PIXELS.astype(np.int32) - 1}, r"integers 0 .. 255. Received: -1 .. -1"),
        ({"train": PIXELS.astype(np.uint16) + 256}, "Received: 256 .. 256"),
        ({"train": np.zeros([4, 4], np.uint8)}, r"shape=\(4, 4\)"),
        ({"train": np.zeros([0, 4, 4, 1], np.uint8)}, r"shape=\(0, 4, 4, 1\)"),
        ({"a": PIXELS, "b": PIXELS}, r"only one array.*keys=\['a', 'b'\]"),
        ({"labels": np.arange(3)}, r"only one array.*keys=\['labels'\]"),
        ({"train": np.array([None])}, "plain array"),
    ],
)
def test_npz_errors(npz, arrays, message):
    name = npz(**arrays)
    with pytest.raises(ValueError, match=message) as error:
        loading.load(name, "train", batch_size=1)
    assert name in str(error.value)


@pytest.mark.parametrize("damage", ["truncated", "altered", "not_zip", "npy"])
def test_npz_damaged(numbered, damage):
    with open(numbered, "rb") as file:
        content = file.read()
    contents = {
        "truncated": content[: len(content) // 2],
        "altered": content.replace(bytes(range(5, 10)), bytes(5)),
        "not_zip": b"not a zip file",
    }
    with open(numbered, "wb") as file:
        if damage == "npy":
            np.save(file, np.zeros([2, 4, 4]))
        else:
            file.write(contents[damage])
    with pytest.raises(ValueError, match=f"`{numbered}` must be a whole .npz file"):
        loading.load(numbered, "train", batch_size=1)


def test_folder_of_other_sizes(folder, tmp_path):
    save_image(tmp_path / "8.png", np.zeros([5, 3], np.uint8))
    with pytest.raises(ValueError, match=r"0.png`: \(2, 3, 1\). .*8.png` of shape \(5, 3, 1\)"):
        loading.load(folder, "train", batch_size=1)


def test_folder_of_other_modes(tmp_path):
    save_image(tmp_path / "rgba.png", np.zeros([4, 4, 4], np.uint8))
    with pytest.raises(ValueError, match=r"8 bits, grey or RGB.* `rgba.png`: transparent pixels"):
        loading.load(str(tmp_path), "train", batch_size=1)


def test_folder_empty_slice(folder):
    with pytest.raises(ValueError, match="must hold 1 images or more"):
        loading.load(folder, "train[:0]", batch_size=1)


def test_folder_without_images(tmp_path):
    with pytest.raises(FileNotFoundError, match="must hold images"):
        loading.load(str(tmp_path), "train", batch_size=1)


def test_folder_of_damaged_images(folder, tmp_path):
    (tmp_path / "3.png").write_bytes((tmp_path / "3.png").read_bytes()[:45])
    with pytest.raises(ValueError, match=r"1 of 7 .*: `3.png`: damaged"):
        loading.load(folder, "train", batch_size=1)
    (tmp_path / "3.png").write_bytes(b"text")
    with pytest.raises(ValueError, match=r"1 of 7 .*: `3.png`: no image"):
        loading.load(folder, "train", batch_size=1)
