"""One evaluation state a thread: blocks nest, and gradients keep what held."""

import threading

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

from tfflows import bijectors, evaluation
from tfflows.evaluation import state


class Waiting(bijectors.FlowBijector):
    """The identity, which waits in its evaluation."""

    def __init__(self, entered, left, name="waiting"):
        super().__init__(
            forward_min_event_ndims=1, parameters={"entered": entered, "left": left}, name=name
        )
        self._events = entered, left

    def _forward_and_log_det(self, x):
        entered, left = self._events
        entered.set()
        assert left.wait(30)
        return x, tf.zeros([])


def test_initialisation_reaches_no_layer_that_another_thread_evaluates():
    entered, left = threading.Event(), threading.Event()
    own = bijectors.ActNorm.trainable([2], name="own")
    other = bijectors.ActNorm.trainable([2], name="other")
    data = tf.constant([[5.0, -3.0], [9.0, 1.0]])
    flow = bijectors.Sequential([Waiting(entered, left), own])
    thread = threading.Thread(target=evaluation.initialize, args=(flow, data))
    thread.start()
    assert entered.wait(30)
    y, _ = evaluation.forward_and_log_det(other, data)
    left.set()
    thread.join(30)
    np.testing.assert_array_equal(y, data)
    for variable in other.variables:
        np.testing.assert_array_equal(variable, [0.0, 0.0])
    np.testing.assert_allclose(tf.reduce_mean(own.forward(data), axis=0), [0.0, 0.0], atol=1e-6)


def test_other_threads_start_from_nothing():
    found = []
    with evaluation.memory("invert"), evaluation.looping(), evaluation.estimating(1, num_terms=5):
        thread = threading.Thread(target=lambda: found.append(state.now()))
        thread.start()
        thread.join(30)
    assert found == [state.Evaluation()]


def test_blocks_change_what_they_name_and_give_it_back():
    with evaluation.memory("recompute"), evaluation.estimating(num_terms=7):
        before = state.now()
        assert (before.memory, before.num_terms, before.looping) == ("recompute", 7, False)
        with pytest.raises(KeyError), evaluation.looping(), evaluation.memory("store"):
            assert (state.now().memory, state.now().looping) == ("store", True)
            assert state.now().num_terms == 7
            raise KeyError
        assert state.now() == before
    assert state.now() == state.Evaluation()


def test_what_is_bound_is_evaluated_as_it_was():
    """As gradients are, which run when the blocks have ended."""
    with (
        evaluation.memory("recompute"),
        evaluation.estimating(3),
        evaluation.calling_networks() as calls,
    ):
        later, then = state.bind(state.now), state.now()
    found = later()
    assert (found.memory, found.seed) == ("recompute", then.seed)
    assert found.calls.training
    assert found.calls is not calls  # What networks say in a gradient was said before.
    assert state.now() == state.Evaluation()


def test_an_observer_sees_its_own_thread_alone():
    seen = []
    with evaluation.observe_layers(before=lambda bijector, x: seen.append(bijector.name)):
        thread = threading.Thread(
            target=evaluation.forward_and_log_det,
            args=(bijectors.ActNorm.trainable([1], name="there"), tf.ones([3, 1])),
        )
        thread.start()
        thread.join(30)
        evaluation.forward_and_log_det(bijectors.ActNorm.trainable([1], name="here"), tf.ones([1]))
    assert seen == ["here"]


tfb = tfp.bijectors


def test_observers_see_parts_in_order_and_the_whole_last():
    names, inputs = [], []
    inner = tfb.Chain([tfb.Scale(2.0, name="third"), tfb.Shift(1.0, name="second")], name="chain")
    flow = bijectors.Sequential([tfb.Exp(name="first"), inner], name="whole")
    with evaluation.observe_layers(
        before=lambda b, x: inputs.append(b.name), after=lambda b, x, y, d: names.append(b.name)
    ):
        evaluation.forward_and_log_det(flow, tf.zeros([2]))
    assert [n for n in inputs if n != "chain"] == ["whole", "first", "second", "third"]
    assert [n for n in names if n != "chain"] == ["first", "second", "third", "whole"]
    evaluation.forward_and_log_det(flow, tf.zeros([2]))
    assert len([n for n in names if n != "chain"]) == 4  # Nobody watches any more.
