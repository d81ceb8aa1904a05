"""Batches: each image once an epoch, and the same order in every run."""

import numpy as np
import pytest
import tensorflow as tf

from tests.trainers.data.image_sets import batches, images
from trainers.data import batching, loading


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


def test_successive_orders_are_uncorrelated(npz):
    name = npz(train=np.arange(40000, dtype=np.uint16).view(np.uint8).reshape(40000, 1, 2, 1))
    found = np.stack(batches(name, batch_size=40000, count=9, shuffle_seed=0, repeat=True))
    orders = found.reshape(9, -1).view(np.uint16).astype(np.float64)
    correlations = np.corrcoef(orders)[np.triu_indices(9, 1)]
    assert np.abs(correlations).max() * 200 < 5  # Standard deviations.


@pytest.mark.parametrize(
    ("count", "shape", "expected"),
    [
        (256, (32, 32, 3), 256),
        (256, (64, 64, 3), 256),
        (64, (256, 256, 3), 16),
        (256, (1024, 1024, 3), 1),
        (64, (2048, 2048, 1), 1),
    ],
)
def test_batches_beside_the_steps_are_bounded_in_pixels(count, shape, expected):
    assert batching.most_events(count, shape) == expected
