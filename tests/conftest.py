"""What every test needs from TensorFlow, absl and hypothesis, set before the first tensor."""

import gc
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import hypothesis
import pytest
from absl import flags

hypothesis.settings.register_profile("dev", deadline=None)
hypothesis.settings.register_profile("ci", deadline=None, derandomize=True)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "dev")


def pytest_configure(config):
    if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()
    in_worker = hasattr(config, "workerinput")
    if in_worker or not config.getoption("numprocesses", default=None):
        _configure_tensorflow(intra_op_threads=1 if in_worker else None)


def _configure_tensorflow(intra_op_threads):
    import tensorflow as tf

    # Two logical devices let MirroredStrategy run in the test's own process.
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    if intra_op_threads:
        # The workers of pytest-xdist already use every core. Inter-op threads stay, since the
        # replicas of a strategy wait for each other.
        tf.config.threading.set_intra_op_parallelism_threads(intra_op_threads)


@pytest.fixture(scope="session")
def two_replicas():
    """A `MirroredStrategy` of two devices, one for the process: those of a second would collide.

    Each strategy numbers its collective operations from the start, and TensorFlow remembers the
    shapes under those numbers.
    """
    import tensorflow as tf

    devices = [d.name for d in tf.config.list_logical_devices("CPU")[:2]]
    assert len(devices) == 2
    return tf.distribute.MirroredStrategy(devices)


@pytest.fixture(scope="module", autouse=True)
def freeze_what_stays():
    """Keeps the garbage collector off what earlier modules left, mostly TensorFlow's graphs.

    A worker of the whole suite holds gigabytes of them; each full collection took it 25 seconds.
    """
    yield
    gc.collect()
    gc.freeze()
