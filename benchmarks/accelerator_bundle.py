"""Writes the programs that `benchmarks.accelerator_jax` runs, with all that they need beside.

A folder of programs is that of one model or layer: `about.json`, `arrays.npz`, and the programs. It
is whole once `about.json` is there, and may travel without the others.
"""

import contextlib
import gzip
import hashlib
import re
import time
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

import tfflows
import zoo
from benchmarks import accelerator_jax, exponential_tensorflow, splines, splines_tensorflow
from benchmarks import sylvester_tensorflow as sylvester
from tfflows import bijectors, evaluation, programs
from tfflows.analysis import operations
from tfflows.distributions import density_of, is_discrete
from tfflows.numerics import series
from tfflows.variables import named_variables
from zoo.storage import files

LARGE = 20_000  # Entries of the largest variable that does not travel as a seed.
COMPARED = 4096  # Entries of a result that are compared, at most.
LOSS = "loss_and_gradients"
POLICIES = {"float32": "float32", "bfloat16": "mixed_bfloat16"}

# The most telling first.
FIRST = (
    *("convexp_glow.digits", "balanced.digits", "sylvester.digits", "balanced.two_moons"),
    *("gnf_convexp.mog4", "convexp_glow.cifar10_small", "balanced.cifar10_small"),
    "sylvester.cifar10_small",
)
SMALL = ("*.digits", "*.two_moons", "*.mog4", "*.cifar10_small")
FULL_SIZE = (
    *("balanced.cifar10", "convexp_glow.cifar10", "sylvester.cifar10"),
    "balanced.celebahq1024",
)
IN_BFLOAT16 = (*FIRST, *FULL_SIZE)
TIMED = FIRST[5:]
BATCH_SIZES = (256, 32, 1024)
VARIANTS = {
    "store": {},
    "loop": {"loop": True},
    "recompute": {"memory": "recompute"},
    "invert": {"memory": "invert"},
}


class Writer:
    """Writes a folder of programs.

    Args:
      folder: where.
      **about: what else `about.json` says.
    """

    def __init__(self, folder, **about):
        self._folder, self._arrays = folder, {}
        self._about = about | {"programs": [], "generated": {}, "samples": {}}
        folder.mkdir(parents=True, exist_ok=True)
        (folder / accelerator_jax.ABOUT).unlink(missing_ok=True)

    def name(self, name, array):
        """Keeps an array under a name."""
        self._arrays[name] = np.asarray(array)

    def keep(self, array):
        """Keeps an array, once, and returns its name."""
        array = np.asarray(array)
        name = hashlib.sha256(f"{array.shape}{array.dtype}".encode() + array.tobytes()).hexdigest()
        name = name[:16]
        if name not in self._about["generated"]:
            self._arrays[name] = array
        return name

    def randomize(self, variables):
        """Gives large variables noise that travels as its seed, of the mean and spread they had."""
        for seed, variable in enumerate(variables):
            if variable.dtype == tf.float32 and variable.shape.num_elements() > LARGE:
                value = variable.numpy()
                mean, std = float(np.mean(value)), float(np.std(value))
                about = {"seed": seed, "shape": list(value.shape), "mean": mean, "std": std}
                value = accelerator_jax.regenerate(about)
                variable.assign(value)
                name = self.keep(value)
                self._about["generated"][name] = about
                self._arrays.pop(name, None)  # Zeros may be there twice.

    def add(self, function, given, program, batch_size, order, **about):
        """Adds a program.

        Args:
          function: what it computes.
          given: names of the arrays that are its arguments.
          program: a `tfflows.programs.Program`.
          batch_size: how many events it takes.
          order: when its turn is.
          **about: what else is said of it.
        """
        file = f"program{len(self._about['programs'])}.hlo.gz"
        with gzip.open(self._folder / file, "wb") as stream:
            stream.write(program.hlo)
        count = len(tf.nest.flatten(program.results))
        outputs = [function] * count
        if function == LOSS:
            numbers = tf.nest.pack_sequence_as(program.results, list(range(count)))
            outputs[numbers["loss"]] = "loss"
            for number in numbers["penalties"]:
                outputs[number] = "penalties"
            for what in ("gradients", "updates"):
                for path, number in numbers[what].items():
                    outputs[number] = f"{what}/{path}"
        self._about["programs"].append(
            {
                "function": function,
                "file": file,
                "given": list(given),
                "captured": [self.keep(value) for value in program.captured.values()],
                "paths": list(program.captured),
                "outputs": outputs,
                "expected": [None] * count,
                "batch_size": batch_size,
                "order": order,
            }
            | about
        )

    def expect(self, values):
        """Keeps what TensorFlow computes by the program that was added last.

        Args:
          values: number of a result -> value.
        """
        program = self._about["programs"][-1]
        for number, value in values.items():
            value, name = np.asarray(value), f"expected/{len(self._arrays)}"
            if value.size > COMPARED:
                about = {"seed": number, "count": COMPARED}
                self._about["samples"][name] = about
                value = accelerator_jax.some_of(value, about)
            self._arrays[name] = value
            program["expected"][number] = name

    def close(self):
        """Writes all; returns the megabytes."""
        np.savez(self._folder / "arrays.npz", **self._arrays)
        files.write_json(self._folder / accelerator_jax.ABOUT, self._about)
        return sum(path.stat().st_size for path in self._folder.iterdir()) / 1e6


def numbered(results):
    """Returns number -> result."""
    return dict(enumerate(tf.nest.flatten(results)))


def compiled(function: Callable) -> Callable:
    """Returns the function as XLA compiles it."""
    return tf.function(function, jit_compile=True, autograph=False)


@contextlib.contextmanager
def networks_in(kind):
    """Builds networks that compute in float32 or bfloat16."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(POLICIES[kind])
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def make_events(entry, count):
    """Returns events like those of a model's data: images are smooth, with some noise."""
    rng, shape = np.random.default_rng(0), entry.event_shape
    if entry.kind != zoo.IMAGES:
        return rng.normal(size=[count, *shape]).astype(np.float32)
    height, width, channels = shape
    coarse = rng.uniform(size=[count, -(-height // 4), -(-width // 4), channels])
    smooth = coarse.repeat(4, 1).repeat(4, 2)[:, :height, :width]
    levels = np.clip(0.9 * smooth + 0.1 * rng.uniform(size=smooth.shape), 0, 0.999)
    return (levels * entry.num_levels).astype(np.uint8)


def make_model(entry, x, **overrides):
    """Returns a model: with the weights of its preset, or those of a start on `x`."""
    if not overrides and entry.name in zoo.list_models(pretrained=True):
        return zoo.open_trained(entry.name).distribution
    distribution = entry.build(**overrides)
    tfflows.FlowModel(distribution, units=entry.units).initialize(x)
    return distribution


def add_loss(writer, model, x, order, **about):
    """Adds loss and gradients of a `FlowModel`; returns the function of what TensorFlow finds."""
    model.compile("adamax", jit_compile=True)
    with evaluation.for_accelerator():
        program = programs.loss_and_gradients(model, x, tensor_float_32=True)
    writer.add(LOSS, ("x", "seed"), program, len(x), order, **about)

    def evaluate():
        step = model._make_loss_and_gradients()
        loss, penalties, gradients, updates = step(tf.constant(x), tf.constant([0, 0]))
        paths = {id(v): path for path, v in named_variables(model.distribution).items()}

        def by_path(variables, values):
            return {paths[id(v)]: value for v, value in zip(variables, values, strict=True)}

        return numbered(
            {
                "loss": loss,
                "penalties": penalties,
                "gradients": by_path(model.trainable_weights, gradients),
                "updates": by_path([v.value for v in model._updated], updates),
            }
        )

    return evaluate


def add(writer, function, given, arguments, *args, module=None, **about):
    """Adds a function of tensors, and what TensorFlow finds, which it returns."""
    with evaluation.for_accelerator():
        program = programs.make_program(function, *arguments, module=module, tensor_float_32=True)
    writer.add(*args[:1], given, program, *args[1:], **about)
    values = numbered(compiled(function)(*arguments))
    writer.expect(values)
    return values


def batch_for(entry):
    """Returns how many events results are compared for."""
    if entry.name in FULL_SIZE:
        return 1 if entry.event_shape[0] > 32 else 2
    return 8 if entry.kind == zoo.IMAGES else 64


def make_writer(folder, entry, networks, model):
    """Returns a writer of programs of a `FlowModel`, with random weights if it has no preset."""
    writer = Writer(
        folder,
        model=entry.name,
        networks=networks,
        parameters=model.count_params(),
        num_dims=int(np.prod(entry.event_shape)),
    )
    if entry.name not in zoo.list_models(pretrained=True):
        writer.randomize(named_variables(model.distribution).values())
    return writer


def write_right(folder, name, networks, order):
    """Writes what a model computes, by TensorFlow, and the programs; returns megabytes."""
    entry = zoo.find(name)
    batch_size = batch_for(entry)
    x, seed = make_events(entry, batch_size), tf.constant([0, 0])
    with networks_in(networks):
        distribution = make_model(entry, x)
    # The graphs of deep models are small as loops.
    options = {"loop": True, "memory": "recompute"} if name in FULL_SIZE else {}
    model = tfflows.FlowModel(distribution, units=entry.units, **options)
    writer = make_writer(folder, entry, networks, model)
    writer.name("x", x)
    writer.name("seed", seed)
    evaluate = add_loss(writer, model, x, [*order, 0])
    writer.expect(evaluate())
    density = density_of(distribution)

    def log_prob(x, seed):
        if is_discrete(distribution):
            return distribution.log_prob(x, seed=seed)
        with evaluation.estimating(seed):
            return distribution.log_prob(x)

    def sample(seed):
        return density.sample(batch_size, seed=seed)

    def encode(x):
        return density.bijector.inverse(x)

    samples = None
    for number, function in enumerate((log_prob, sample, encode), start=1):
        given = {"log_prob": {"x": x, "seed": seed}, "sample": {"seed": seed}}
        given = given.get(function.__name__, {"samples": samples})
        arguments = [tf.constant(value) for value in given.values()]
        where = function.__name__, batch_size, [*order, number]
        with evaluation.looping(name in FULL_SIZE):
            outputs = add(writer, function, given, arguments, *where, module=distribution)
        if function is sample:
            samples = outputs[0]
            writer.name("samples", samples)
    return writer.close()


def write_steps(folder, name, networks, configurations):
    """Writes the steps of a model that are timed; returns megabytes.

    Args:
      folder: where.
      name: of the model.
      networks: what its networks compute in.
      configurations: `(order, variant, batch size)` of each.
    """
    entry = zoo.find(name)
    x = make_events(entry, max(size for _, _, size in configurations))
    with networks_in(networks):
        distribution = make_model(entry, x[:64])
    base = tfflows.FlowModel(distribution, units=entry.units)
    base.compile("adamax", jit_compile=True)
    writer = make_writer(folder, entry, networks, base)
    writer.name("x", x[:32])
    writer.name("seed", [0, 0])
    per_event = count_operations(base, x[:8]) / 8
    for order, variant, batch_size in configurations:
        model = tfflows.FlowModel(distribution, units=entry.units, **VARIANTS[variant])
        add_loss(
            *(writer, model, x[:batch_size], order),
            **{"variant": variant, "operations": batch_size * per_event},
        )
    return writer.close()


def count_operations(model, x):
    """Returns the floating-point operations of loss and gradients, each loop's once."""
    step = model._make_loss_and_gradients()
    seed = tf.constant([0, 0])
    return operations.count(lambda x: step.python_function(x, seed), tf.constant(x)).operations


# Layers that have a counterpart in PyTorch. Each is (arrays, function of them with a batch first,
# what PyTorch is to compute).

WITH_GRADIENTS = "forward + backward"


def exponential(channels, size, batch):
    """The series of `exponential`, and its gradients."""
    arrays = exponential_tensorflow.make_arrays(channels, size, batch)

    def both(x, kernel):
        with tf.GradientTape() as tape:
            tape.watch([x, kernel])
            y = series.conv_exponential(x, kernel, terms=exponential_tensorflow.TERMS)
        return [y, *tape.gradient(y, [x, kernel], y)]

    return arrays, ("x", "kernel"), both, {"terms": exponential_tensorflow.TERMS}


def exponential_layer(channels, size, batch):
    """`ConvExponential`, with its norm bound and log-det, and all gradients."""
    arrays = exponential_tensorflow.make_arrays(channels, size, batch)
    kernel = tf.Variable(2 * arrays["kernel"])
    layer = bijectors.ConvExponential(kernel, max_norm=exponential_tensorflow.MAX_NORM)

    def both(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y, log_det = evaluation.forward_and_log_det(layer, x)
        return [y, *tape.gradient([y, log_det], [x, kernel], [y, tf.ones_like(log_det)])]

    return arrays, ("x",), both, {"terms": exponential_tensorflow.TERMS}


def sylvester_layer(channels, size, batch):
    """`ConvSylvester` at the width of the paper, log-det and all gradients."""
    arrays = sylvester.make_arrays(channels, size, batch, 528)
    flow, network = sylvester.make_flow_of(arrays, "float32")
    about = {"terms": sylvester.TERMS, "tolerance": sylvester.TOLERANCE}
    return arrays, ("x",), lambda x: sylvester.forward_and_gradients(flow, network, x), about


def spline_couplings(dimension, batch):
    """Four RQ-NSF couplings: the mean of -log p(x) and its gradients."""
    case = splines.Case("spline couplings", dimension, batch)
    keras.utils.set_random_seed(0)
    half, bins = dimension // 2, case.bins
    outputs = half * splines_tensorflow.num_parameters(case.kind, bins)
    networks = [
        splines_tensorflow.make_network(half, case.width, outputs) for _ in range(splines.LAYERS)
    ]
    flow, _ = splines_tensorflow.tfflows_layers(case.kind, networks, dimension, bins)
    weights = [v.value for network in networks for v in network.trainable_variables]
    arrays = {"x": case.data()} | {f"w{i}": w.numpy() for i, w in enumerate(weights)}

    def both(x):
        with tf.GradientTape() as tape:
            y, log_det = evaluation.forward_and_log_det(flow, x)
            normalizer = dimension * np.log(2 * np.pi) / 2
            loss = tf.reduce_mean(tf.reduce_sum(y**2, -1) / 2 - log_det) + normalizer
        return [loss, *tape.gradient(loss, weights)]

    return arrays, ("x",), both, {"bins": bins, "bound": splines.BOUND, "layers": splines.LAYERS}


LAYERS = {
    "series, C=12 16x16": ("exponential", exponential, (12, 16, 256)),
    "exponential, C=12 16x16": ("exponential", exponential_layer, (12, 16, 256)),
    "Sylvester, C=12 16x16": ("sylvester", sylvester_layer, (12, 16, 256)),
    "spline couplings, D=64": ("splines", spline_couplings, (64, 4096)),
    "series, C=48 16x16": ("exponential", exponential, (48, 16, 256)),
    "exponential, C=48 16x16": ("exponential", exponential_layer, (48, 16, 256)),
    "Sylvester, C=48 4x4": ("sylvester", sylvester_layer, (48, 4, 256)),
    "spline couplings, D=784": ("splines", spline_couplings, (784, 1024)),
}


def write_layer(folder, name, order, quick):
    """Writes a layer that is timed, and what PyTorch needs to compute the same; returns MB."""
    torch, make, (*sizes, batch) = LAYERS[name]
    batch = 4 if quick else batch
    arrays, given, function, about = make(*sizes, batch)
    name = f"{name} batch {batch}"
    writer = Writer(folder, model=name, networks="float32", torch={"kind": torch} | about)
    for key, array in arrays.items():
        writer.name(key, array)
    arguments = [tf.constant(arrays[key]) for key in given]
    count = operations.count(function, *arguments).operations
    where = WITH_GRADIENTS, batch, order
    add(writer, function, given, arguments, *where, variant="store", operations=count)
    return writer.close()


# All of a part.


def plan_right(pattern, kinds, quick):
    """Returns (folder, function) for what is to be compared."""
    names = {name: None for name in FIRST}
    names |= {name: None for pattern in SMALL for name in zoo.list_models(pattern)}
    names |= {name: None for name in FULL_SIZE}
    chosen = [n for n in names if re.fullmatch(pattern, n)]
    if pattern == ".*":
        chosen = [n for n in chosen if n not in FULL_SIZE]
    if quick:
        chosen = chosen[:1]
    for networks in kinds:
        for order, name in enumerate(chosen):
            if networks == "float32" or name in IN_BFLOAT16:
                late = 0 if networks == "float32" else 1
                yield f"{name}.{networks}", write_right, (name, networks, [late, order])


def plan_fast(pattern, kinds, quick):
    """Returns the same for what is timed: a step of each model, layers, and then variants."""
    names = [n for n in TIMED if re.fullmatch(pattern, n)]
    if pattern != ".*":
        names += [n for n in zoo.list_models() if re.fullmatch(pattern, n) and n not in TIMED]
    sizes, variants = BATCH_SIZES, list(VARIANTS)
    if quick:
        names, sizes, variants = names[:1] if pattern != ".*" else ["glow.digits"], (4,), ["store"]
    for order, name in enumerate(names):
        wanted = [(sizes[0], "store"), *((s, "store") for s in sizes[1:])]
        wanted += [(sizes[0], variant) for variant in variants[1:]]
        rounds = [([2 * (turn > 0), turn, order], v, s) for turn, (s, v) in enumerate(wanted)]
        if "float32" in kinds:
            yield f"{name}.float32", write_steps, (name, "float32", rounds)
        if "bfloat16" in kinds and not quick:
            late = [([3, 0, order], "store", sizes[0])]
            yield f"{name}.bfloat16", write_steps, (name, "bfloat16", late)
    layers = [n for n in LAYERS if pattern == ".*" or re.fullmatch(pattern, n)]
    for order, name in enumerate(layers[:4:3] if quick else layers):
        folder = re.sub(r"[^\w.]+", "_", name)
        yield folder, write_layer, (name, [1, order], quick)


PLANS = {"right": plan_right, "fast": plan_fast}


def write(folder, part, pattern, kinds, quick):
    """Writes a part of a bundle; returns whether all of it could be written."""
    total, whole, most = 0.0, True, 64 * 2**20 / 1e6
    for name, function, arguments in PLANS[part](pattern, kinds, quick):
        start = time.time()
        try:
            size = function(folder / part / name, *arguments)
        except Exception as error:  # The others go on.
            print(f"{part}/{name}: {type(error).__name__}: {str(error)[:300]}", flush=True)
            whole = False
            continue
        total += size
        print(f"{part}/{name}: {size:.1f} MB, {time.time() - start:.0f} s", flush=True)
    more = f", more than the {most:.0f} that fit a call: choose --models" if total > most else ""
    print(f"{folder / part}: {total:.1f} MB{more}", flush=True)
    return whole
