"""`tf.distribute` strategies: which one, who writes, what each host reads, and shards on a CPU."""

import contextlib
import json
import math
import os
from collections.abc import Callable, Iterator, Sequence

import keras
import tensorflow as tf

from trainers.runs.run import Devices

PIXELS_A_SHARD = 8192  # With fewer, a step is mostly the starting of operations.


def make(devices: Devices) -> tf.distribute.Strategy:
    """Returns the `tf.distribute.Strategy` of devices; call before the first tensor."""
    if devices.cpu_devices > 1:
        cpu = tf.config.list_physical_devices("CPU")[0]
        tf.config.set_logical_device_configuration(
            cpu, [tf.config.LogicalDeviceConfiguration()] * devices.cpu_devices
        )
    keras.mixed_precision.set_global_policy(devices.precision)
    if devices.strategy == "multi_worker":
        _num_workers()  # An error that says more than that of TensorFlow.
        return tf.distribute.MultiWorkerMirroredStrategy()
    if devices.strategy == "tpu":
        try:
            resolver = tf.distribute.cluster_resolver.TPUClusterResolver.connect(devices.tpu)
            return tf.distribute.TPUStrategy(resolver)
        except tf.errors.OpError as error:
            raise ValueError(
                f"`--strategy=tpu` needs a TPU. Received: --tpu={devices.tpu}, where TensorFlow "
                f"says {(error.message or '').partition(chr(10))[0]!r}."
            ) from None
    gpus = tf.config.list_logical_devices("GPU")
    if devices.strategy == "mirrored" or (devices.strategy == "auto" and len(gpus) > 1):
        found = gpus or tf.config.list_logical_devices("CPU")
        return tf.distribute.MirroredStrategy([device.name for device in found])
    return tf.distribute.get_strategy()


def _num_workers():
    """Returns the number of workers that TF_CONFIG names."""
    text = os.environ.get("TF_CONFIG", "")
    try:
        config = json.loads(text)
        cluster, task = config["cluster"], config["task"]
        workers = sum(len(cluster.get(job, [])) for job in ("chief", "worker"))
        if int(task["index"]) < len(cluster[task["type"]]):
            return workers
    except (ValueError, KeyError, TypeError, AttributeError):
        pass
    example = {"cluster": {"worker": ["a:1234", "b:1234"]}, "task": {"type": "worker", "index": 0}}
    raise ValueError(
        "`--strategy=multi_worker` needs the environment variable TF_CONFIG, with all workers and "
        f"which of them this one is, such as TF_CONFIG='{json.dumps(example)}'. "
        f"Received: TF_CONFIG={text!r}."
    )


def is_chief(strategy: tf.distribute.Strategy) -> bool:
    """Returns whether this process is the one that writes: the only one, or the first worker."""
    resolver = strategy.cluster_resolver
    if resolver is None or not resolver.task_type:
        return True
    jobs = resolver.cluster_spec().jobs
    return (resolver.task_type, resolver.task_id) == ("chief" if "chief" in jobs else "worker", 0)


def _num_replicas(devices):
    """Returns the number of replicas there will be, as far as it is known without a TPU."""
    gpus = len(tf.config.list_physical_devices("GPU"))
    if devices.strategy == "multi_worker":
        return _num_workers() * max(1, gpus)
    if devices.strategy == "mirrored" or (devices.strategy == "auto" and gpus > 1):
        return gpus or devices.cpu_devices
    return 1


def check_batch(batch_size: int, replicas: int) -> None:
    """Refuses a global batch that replicas can't share equally."""
    if batch_size % replicas:
        raise ValueError(
            "The batch size, over all replicas, must be a multiple of their number. "
            f"Received: a batch size of {batch_size}, {replicas} replicas."
        )


def set_shards(
    shards: int | None, batch_size: int, event_shape: Sequence[int], devices: Devices
) -> int:
    """Returns the number of shards of a step and sets the threads for it; call it first of all.

    Args:
      shards: what is asked for; `None` to choose.
      batch_size: global batch size.
      event_shape: shape of an event.
      devices: what computes.
    """
    replicas, cores = _num_replicas(devices), len(os.sched_getaffinity(0))
    check_batch(batch_size, replicas)
    pixels = batch_size // replicas * math.prod(event_shape[:-1])
    on_cpu = not tf.config.list_physical_devices("GPU")
    if shards is None:
        usual = on_cpu and devices.strategy not in ("mirrored", "tpu")
        most = min(cores, max(1, pixels // PIXELS_A_SHARD)) if usual else 1
        shards = max(d for d in range(1, most + 1) if batch_size // replicas % d == 0)
    if batch_size // replicas % shards:
        raise ValueError(
            "`--shards` must divide the batch of a replica. "
            f"Received: --shards={shards}, {batch_size // replicas} events a replica."
        )
    if shards > 1:
        tf.config.threading.set_intra_op_parallelism_threads(1)
        tf.config.threading.set_inter_op_parallelism_threads(cores)
    return shards


@contextlib.contextmanager
def explain_errors(strategy: tf.distribute.Strategy) -> Iterator[None]:
    """Adds to an error of TensorFlow what it means for the other workers."""
    try:
        yield
    except tf.errors.OpError as error:
        if isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
            error.add_note(
                "A worker that ends takes the others with it. When the cause is mended, start all "
                "workers again, with --resume."
            )
        raise


def feed(strategy: tf.distribute.Strategy, load: Callable) -> tf.data.Dataset:
    """Returns an endless data set that gives every replica its rows of the global batches.

    Endless, since Keras takes the batches of replicas for as many steps, and workers would have to
    agree before each step that there is one.

    Args:
      strategy: the strategy.
      load: `loading.load` but for the argument `part`; with full batches.
    """

    def on_host(context):
        part = (context.input_pipeline_id, context.num_input_pipelines)
        dataset = load(part=part).dataset.repeat()
        rows = tf.nest.flatten(dataset.element_spec)[0].shape[0]
        local = context.num_replicas_in_sync // context.num_input_pipelines
        return dataset.rebatch(rows // local, drop_remainder=True) if local > 1 else dataset

    return strategy.distribute_datasets_from_function(on_host)


def broadcast(strategy: tf.distribute.Strategy, variables: Sequence) -> None:
    """Sets variables, on all workers, to their values on the first one.

    Replicas of one process agree already: what is assigned goes to all of them.
    """
    if not isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
        return

    def on_replica():
        context = tf.distribute.get_replica_context()
        first = context.replica_id_in_sync_group == 0
        values = [tf.where(first, v, tf.zeros_like(v)) for v in variables]
        # One call a variable: in one of all, they must have one type.
        return [context.all_reduce(tf.distribute.ReduceOp.SUM, value) for value in values]

    values = tf.function(strategy.run)(on_replica)
    for variable, value in zip(variables, values, strict=True):
        variable.assign(strategy.experimental_local_results(value)[0])
