"""Runs the programs of `benchmarks.accelerator` with JAX; see there. Needs no TensorFlow.

    python benchmarks/accelerator_jax.py right --folder=runs/accelerator
    python benchmarks/accelerator_jax.py fast --folder=runs/accelerator
    python benchmarks/accelerator_jax.py lower --folder=runs/accelerator
    python benchmarks/accelerator_jax.py check --folder=runs/program
    python benchmarks/accelerator_jax.py train --folder=runs/program --seconds=600

`right` compares what the programs compute with what TensorFlow computed, `check` those of one
folder; both end with 1 if anything is further off than it may be. `fast` times steps of training,
and layers. `lower` lowers the programs for platforms that are not here. What is done is in the JSON
file at once: a run may be cut off at any time.

`train` holds the images on the device and takes the steps in a loop there: Adam or Adamax, a
warm-up, a norm clip, a rate that is constant and then falls linearly to 0 with the time that is
spent, a moving average of the weights. It writes `trained.npz` every minute and goes on from it,
with the time that is left, if it is started again.
"""

import argparse
import concurrent.futures
import dataclasses
import functools
import glob
import gzip
import importlib
import importlib.util
import json
import os
import pathlib
import shlex
import sys
import time

import numpy as np

try:
    # PyTorch may want some of the memory, too.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    # Of an environment of its own, see benchmarks/requirements-accelerator.txt.
    jax, jnp, export, mlir, ir, stablehlo = map(
        importlib.import_module,
        (
            "jax",
            "jax.numpy",
            "jax.export",
            "jax._src.interpreters.mlir",
            "jaxlib.mlir.ir",
            "jaxlib.mlir.dialects.stablehlo",
        ),
    )
except ImportError:
    jax = None

CHUNK = 50  # Steps between two looks of the host.
ABOUT = "about.json"  # What is in a folder of programs.
PRODUCTS = ("stablehlo.dot_general", "stablehlo.dot", "stablehlo.convolution")
# How far off results may be, of the norm of what TensorFlow found, by the arithmetic of products:
# units of 6e-8, of 5e-4 where a GPU takes float32 for TF32, of 4e-3 in bfloat16. A loss and a
# log_prob are sums of thousands of terms, whose errors are of either sign; gradients and inverses
# go through a hundred layers, each of which adds to the error and may enlarge it. A sample
# goes through the inverse, whose largest slope may be 1e4 (gnf_convexp.mog4). Steps of a ReLU
# or a maximum that rounding puts on the other side are in the gradient at full size.
TOLERANCES = {
    "float32": {"loss": 1e-5, "gradients": 1e-3, "log_prob": 1e-5, "sample": 1e-2, "encode": 1e-3},
    "TF32": {"loss": 2e-3, "gradients": 5e-2, "log_prob": 2e-3, "sample": 5e-2, "encode": 5e-2},
    "bfloat16": {"loss": 2e-2, "gradients": 3e-1, "log_prob": 2e-2, "sample": 2e-1, "encode": 2e-1},
}
# Operations a second, dense, of the data sheets "NVIDIA H100 Tensor Core GPU" (SXM) and "NVIDIA
# H200 Tensor Core GPU", which print those of tensor cores with sparsity, twice as many.
PEAKS = {
    "H100": {"float32": 67e12, "TF32": 494.5e12, "bfloat16": 989.5e12},
    "H200": {"float32": 67e12, "TF32": 494.5e12, "bfloat16": 989.5e12},
}


def random_words(seed, count):
    """Returns integers that are the same with any version of NumPy."""
    return np.random.PCG64(seed).random_raw(count)


def regenerate(about):
    """Returns an array that travels as its seed, shape, mean and standard deviation."""
    words = random_words(about["seed"], int(np.prod(about["shape"])))
    uniform = (words >> np.uint64(40)).astype(np.float32) / np.float32(1 << 24)
    noise = (uniform - np.float32(0.5)) * np.float32(about["std"] * np.sqrt(12))
    return (noise + np.float32(about["mean"])).reshape(about["shape"])


def some_of(array, about):
    """Returns those entries of a large array that are compared."""
    places = random_words(about["seed"], about["count"]) % np.uint64(array.size)
    return np.reshape(array, -1)[places.astype(np.int64)]


def load_program(path, precision="default", platform=None):
    """Returns a program of XLA as a `jax.export.Exported`, arrays -> tuple, and its scatters."""
    with gzip.open(path) as file:
        hlo = file.read()
    here = jax.default_backend().replace("gpu", "cuda")
    exported = loader().to_exported(hlo, path.name, [platform or here])
    scatters, highest = 0, ", ".join(["#stablehlo<precision HIGHEST>"] * 2)

    def visit(operation):
        nonlocal scatters
        scatters += operation.name == "stablehlo.scatter"
        if operation.name in PRODUCTS and precision == "highest":
            operation.attributes["precision_config"] = ir.Attribute.parse(f"[{highest}]")
        return ir.WalkResult.ADVANCE

    with mlir.make_ir_context() as context:
        serialized = exported.mlir_module_serialized
        module = stablehlo.deserialize_portable_artifact(context, serialized)
        module.operation.walk(visit)
        week = stablehlo.StablehloCompatibilityRequirement.WEEK_4  # As the loader writes.
        version = stablehlo.get_version_from_compatibility_requirement(week)
        serialized = stablehlo.serialize_portable_artifact(module, version)
    return dataclasses.replace(exported, mlir_module_serialized=bytes(serialized)), scatters


@functools.cache
def loader():
    """Returns the module of `tfflows` that needs JAX alone, without the others."""
    path = pathlib.Path(__file__).parents[1] / "tfflows" / "_jax.py"
    spec = importlib.util.spec_from_file_location("tfflows_jax", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def structures(exported):
    """Returns shapes and dtypes of the arguments."""
    return [jax.ShapeDtypeStruct(aval.shape, aval.dtype) for aval in exported.in_avals]


class Unit:
    """A folder of programs of one model or layer, and the arrays that they share."""

    def __init__(self, folder):
        self.folder = folder
        self.about = json.loads((folder / ABOUT).read_text())
        self.programs = [Program(self, about) for about in self.about["programs"]]

    @functools.cached_property
    def _file(self):
        return np.load(self.folder / "arrays.npz")

    def array(self, name):
        """Returns an array by its name."""
        generated = self.about["generated"].get(name)
        return self._file[name] if generated is None else regenerate(generated)

    def pair(self, name, value):
        """Returns what is compared of a result, and what TensorFlow found there."""
        about, value = self.about["samples"].get(name), np.asarray(value)
        return (value if about is None else some_of(value, about)), self.array(name)

    def error(self, name, value):
        """Returns the largest difference over the largest value."""
        value, expected = self.pair(name, value)
        return float(np.max(np.abs(value - expected)) / np.max(np.abs(expected)))

    def arrays(self):
        """Returns all arrays that the file has."""
        return dict(self._file)


class Program:
    """One program, and what was written beside it."""

    def __init__(self, unit, about):
        self.unit, self.about, self.precision = unit, about, "default"
        self.function, self.batch_size = about["function"], about["batch_size"]
        # What is trained: the number of the variable, and of the output that is its gradient.
        outputs = {name: number for number, name in enumerate(about["outputs"])}
        paths = [f"gradients/{path}" for path in about["paths"]]
        self.trained = [(i, outputs[path]) for i, path in enumerate(paths) if path in outputs]

    @property
    def path(self):
        """The file of the program."""
        return self.unit.folder / self.about["file"]

    @functools.cached_property
    def _loaded(self):
        return load_program(self.path, self.precision)

    @property
    def call(self):
        """The program, of all its arguments: those that are given, then the variables."""
        return self._loaded[0].call

    @property
    def scatters(self):
        """How many sums into places that depend on the data it has."""
        return self._loaded[1]

    def close(self):
        """Forgets what it has loaded."""
        self.__dict__.pop("_loaded", None)
        self.__dict__.pop("variables", None)

    def arguments(self):
        """Returns what is given: events and seed."""
        given = [self.unit.array(name) for name in self.about["given"]]
        if self.about["given"][:1] == ["x"]:
            x = given[0]  # The same events over and over in large batches.
            given[0] = np.resize(x, [self.batch_size, *x.shape[1:]])
        return given

    @functools.cached_property
    def variables(self):
        """The arrays that the program reads."""
        return [self.unit.array(name) for name in self.about["captured"]]

    def loss_and_gradients(self, x, seed, variables):
        """Returns the mean of -log p(x) in nats, and its gradients."""
        outputs = self.call(x, seed, *variables)
        loss = outputs[self.about["outputs"].index("loss")]
        return loss, [outputs[number] for _, number in self.trained]

    def bits_per_dim(self, loss):
        """Converts nats."""
        return float(loss) / self.unit.about["num_dims"] / np.log(2)

    @property
    def networks(self):
        """What networks compute in."""
        return self.unit.about["networks"]

    def arithmetic(self):
        """Returns what products are computed in on this device."""
        if self.networks == "float32" and self.precision == "default":
            return "TF32" if jax.default_backend() == "gpu" else "float32"
        return self.networks

    def run(self, compiled):
        """Returns the outputs."""
        return jax.block_until_ready(compiled(self.arguments(), self.variables))

    def compile(self):
        """Returns the compiled program, of given arguments and variables."""
        shapes, count = structures(self._loaded[0]), len(self.about["given"])
        function = jax.jit(lambda given, variables: self.call(*given, *variables))
        # Shapes alone: arrays are read one thread at a time.
        return function.lower(shapes[:count], shapes[count:]).compile()

    def compare(self, outputs):
        """Returns rows: how far what the device computed is off."""
        parts = {}
        for number, name in enumerate(self.about["outputs"]):
            parts.setdefault(name.split("/")[0], []).append(number)
        for what, numbers in sorted(parts.items(), reverse=True):
            off = of = 0.0
            finite = True
            for number in numbers:
                output = np.asarray(outputs[number])
                value, expected = self.unit.pair(self.about["expected"][number], output)
                weight, value = output.size / max(1, value.size), np.float64(value)
                finite &= bool(np.all(np.isfinite(value)))
                off += weight * np.sum((value - expected) ** 2)
                of += weight * np.sum(np.float64(expected) ** 2)
            off, of = float(np.sqrt(off)), float(np.sqrt(of))
            most = TOLERANCES[self.arithmetic()].get(what, TOLERANCES[self.arithmetic()]["sample"])
            relative = off / of if of else off
            right = "yes" if finite and relative <= most else "NO"
            found = {"off by": off, "of": of, "relative": relative, "tolerance": most}
            yield {"what": what} | found | {"right": right if finite else "NO, not finite"}


def find_units(folder, part):
    """Returns the units of a part of a bundle that are there."""
    paths = sorted((folder / part).glob(f"*/{ABOUT}"))
    return [Unit(path.parent) for path in paths]


def find_programs(units):
    """Returns the programs of units, the most telling first."""
    programs = [program for unit in units for program in unit.programs]
    return sorted(programs, key=lambda program: program.about["order"])


class Results:
    """Rows that are in a file as soon as they are there, and printed."""

    def __init__(self, folder, part, facts):
        self._path, self.rows = folder / f"{part}.json", []
        self._results = facts | {"rows": self.rows}
        self._write()

    def add(self, row):
        """Adds a row."""
        self.rows.append(row)
        self._write()
        cells = (
            v if isinstance(v, str) else f"{k} {v:.3g}" for k, v in row.items() if v is not None
        )
        print(", ".join(cells), flush=True)

    def _write(self):
        self._path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = self._path.with_suffix(".unfinished")
        unfinished.write_text(json.dumps(self._results, indent=1))
        os.replace(unfinished, self._path)


def right(args):
    """Compares with TensorFlow; returns whether all is as near as it should be."""
    facts = machine() | {"tolerances": TOLERANCES}
    results = Results(args.results or args.folder, "right", facts)
    begun = time.time()
    jobs = []
    for precision in precisions(args.precision):
        programs = find_programs(find_units(args.folder, "right"))
        for program in programs:
            program.precision = precision
        # Networks in bfloat16 have products in float32 beside them, of no interest here.
        jobs += [p for p in programs if precision == "default" or p.networks == "float32"]
    if not jobs:
        raise SystemExit(f"There are no programs in {args.folder / 'right'}.")

    def prepare(program):
        start = time.time()
        if start - begun > args.seconds:
            return None, 0.0
        try:
            return program.compile(), time.time() - start
        except Exception as error:  # A row; the others go on.
            return error, time.time() - start

    with concurrent.futures.ThreadPoolExecutor(args.workers) as pool:
        for program, (compiled, seconds) in zip(jobs, pool.map(prepare, jobs), strict=True):
            named = {
                "model": program.unit.about["model"],
                "networks": program.networks,
                "precision": program.precision,
                "arithmetic": program.arithmetic(),
                "batch": program.batch_size,
            }
            if compiled is None:
                results.add(named | {"what": program.function, "right": "not run, out of time"})
                continue
            try:
                if isinstance(compiled, Exception):
                    raise compiled
                start = time.time()
                outputs = program.run(compiled)
                times = {"compile s": seconds, "run s": time.time() - start}
                for row in program.compare(outputs):
                    results.add(named | row | times)
            except Exception as error:
                text = f"{type(error).__name__}: {str(error)[:300]}"
                results.add(named | {"what": program.function, "right": f"NO, {text}"})
            finally:
                program.close()
    wrong = sum(row["right"].startswith("NO") for row in results.rows)
    print(f"{device()}: {len(results.rows)} comparisons, {wrong} further off than they may be")
    return wrong == 0


def precisions(chosen):
    """Returns those to run: on a GPU products in float32 are of two kinds."""
    if chosen == "auto":
        return ["default", "highest"] if jax.default_backend() == "gpu" else ["default"]
    return ["default", "highest"] if chosen == "both" else [chosen]


def lower(args):
    """Lowers all programs for platforms that may not be here; returns whether all could be.

    It says that JAX and XLA know every operation for the platform, not that it compiles or runs.
    """
    results = Results(args.results or args.folder, "lower", machine())
    programs = [
        p for part in ("right", "fast") for p in find_programs(find_units(args.folder, part))
    ]
    for program in programs:
        row = {"model": program.unit.about["model"], "networks": program.networks}
        row |= {"function": program.function, "batch": program.batch_size}
        for platform in loader().PLATFORMS:
            try:
                exported, _ = load_program(program.path, platform=platform)
                function = jax.jit(lambda *arrays, call=exported.call: call(*arrays))
                lowering = export.export(function, platforms=[platform])
                lowering(*structures(exported))
                row[platform] = "yes"
            except Exception as error:
                row[platform] = f"NO, {type(error).__name__}: {str(error)[:300]}"
        results.add(row)
    return not any(str(cell).startswith("NO") for row in results.rows for cell in row.values())


def check(args):
    """Compares one folder with TensorFlow; returns whether all is within the tolerance."""
    unit, agree = Unit(args.folder), True
    for program in unit.programs:
        if None in program.about["expected"]:
            raise SystemExit(f"{args.folder} was written with --no-expected.")
        program.precision = "highest" if args.precision == "highest" else "default"
        begun = time.time()
        rows = {row["what"]: row for row in program.compare(program.run(program.compile()))}
        for what, row in rows.items():
            print(f"{device()}: {what} off by {row['relative']:.1e} of {row['of']:.6g}")
            agree &= row["relative"] <= args.tolerance
        print(f"first call {time.time() - begun:.1f} s")
    return agree


def device():
    """Returns the name of the device."""
    return jax.devices()[0].device_kind


def machine():
    """Returns what results depend on."""
    return {
        "device": device(),
        "platform": jax.default_backend(),
        "cores": len(os.sched_getaffinity(0)),
        "jax": jax.__version__,
    }


# How long things take.


def fast(args):
    """Times steps of training, and layers; returns whether all of them ran."""
    begun = time.time()
    peaks = measure_peaks(1024 if jax.default_backend() == "cpu" else 8192)
    sheet = next((peaks for name, peaks in PEAKS.items() if name in device()), {})
    facts = machine() | {"measured peaks": peaks, "data sheet": sheet}
    results = Results(args.results or args.folder, "fast", facts)
    programs = find_programs(find_units(args.folder, "fast"))
    torch = read_rows((args.results or args.folder) / "torch.json")
    for program in programs:
        row = {
            "model": program.unit.about["model"],
            "networks": program.networks,
            "variant": program.about["variant"],
            "batch": program.batch_size,
        }
        program.precision = "highest" if args.precision == "highest" else "default"
        row["arithmetic"] = program.arithmetic()
        if time.time() - begun > args.seconds:
            results.add(row | {"error": "not run, out of time"})
            continue
        try:
            is_step = program.function == "loss_and_gradients"
            row |= (time_step if is_step else time_layer)(program, args)
            row["scatters"] = program.scatters
            rate = program.about["operations"] / row["ms"] * 1e3
            row |= {"TFLOP/s": rate / 1e12}
            for name, found in (("data sheet", sheet), ("measured", peaks)):
                peak = found.get(row["arithmetic"])
                row[f"% of peak, {name}"] = 100 * rate / peak if peak else None
            for mode in ("eager", "compiled"):
                if times := of_torch(torch, row["model"], mode):
                    row[f"times torch {mode}"] = min(times) / row["ms"]
        except Exception as error:
            row["error"] = f"{type(error).__name__}: {str(error)[:300]}"
        finally:
            program.close()
        results.add(row)
    return not any("error" in r and "out of time" not in r["error"] for r in results.rows)


def of_torch(rows, case, mode):
    """Returns milliseconds that PyTorch takes for a layer, in its layouts."""
    found = [r for r in rows if r["case"] == case and f" {mode}" in r["contestant"]]
    return [row["ms"] for row in found if "ms" in row]


def read_rows(path):
    """Returns the rows of a file of results; none if there is no such file."""
    return json.loads(path.read_text())["rows"] if path.exists() else []


def measure_peaks(size):
    """Returns the operations a second of the product of two large matrices, by arithmetic."""
    found = {}
    for name, dtype, precision in (
        ("float32", "float32", "highest"),
        ("TF32", "float32", "default"),
        ("bfloat16", "bfloat16", "default"),
    ):
        a = jax.random.normal(jax.random.key(0), [size, size], dtype)
        product = jax.jit(functools.partial(jnp.matmul, precision=precision))
        call = functools.partial(product, a, a)
        found[name] = 2 * size**3 / burst(call, 0.3, jax.block_until_ready)
    return found if jax.default_backend() == "gpu" else found | {"TF32": found["float32"]}


def burst(function, seconds, wait):
    """Returns the seconds of a call, the median of 3 rows of calls that are waited for at the end.

    Args:
      function: what to time.
      seconds: what a row takes, about. Two calls before do not count.
      wait: waits until a result is there.
    """
    for _ in range(2):
        start = time.perf_counter()
        wait(function())
        one = time.perf_counter() - start
    count, times = max(1, int(seconds / one)), []
    for _ in range(3):
        start = time.perf_counter()
        for _ in range(count):
            result = function()
        wait(result)
        times.append((time.perf_counter() - start) / count)
    return float(np.median(times))


def time_layer(program, args):
    """Returns milliseconds of a call."""
    begun = time.time()
    compiled = program.compile()
    compile_s = time.time() - begun
    arguments = jax.device_put((program.arguments(), program.variables))
    seconds = burst(lambda: compiled(*arguments), args.burst, jax.block_until_ready)
    row = {"compile s": compile_s, "ms": 1e3 * seconds} | memory_of(compiled)
    if program.about["expected"][0]:
        output = compiled(*arguments)[0]
        row["relative"] = program.unit.error(program.about["expected"][0], output)
    return row


def time_step(program, args):
    """Returns milliseconds of a step of training, optimiser included, in a loop on the device."""
    x, *_ = program.arguments()
    update = make_update(program, argparse.Namespace(**TRAINING))

    def steps(state, rate, count, x):
        def body(i, carried):
            return update(carried[0], i, rate, x)

        # The rate, 0, is an argument: the steps are what they are at any other.
        return jax.lax.fori_loop(0, count, body, (state, (jnp.float32(0), True)))

    state = first_state(program)
    begun = time.time()
    compiled = jax.jit(steps).lower(state, jnp.float32(0), jnp.int32(0), x).compile()
    compile_s = time.time() - begun
    rate, x = jax.device_put((jnp.float32(0), x))

    def run(count):
        start = time.perf_counter()
        _, (loss, _) = jax.block_until_ready(compiled(state, rate, jnp.int32(count), x))
        return time.perf_counter() - start, float(loss)

    first, loss = run(1)
    second, _ = run(1)
    count = int(np.clip(args.burst / second, 1, 1000))
    seconds = float(np.median([run(count)[0] / count for _ in range(3)]))
    if not np.isfinite(loss):
        raise ArithmeticError(f"The loss is {loss}.")
    return {
        "compile s": compile_s,
        "first step s": first,
        "ms": 1e3 * seconds,
        "images/s": program.batch_size / seconds,
    } | memory_of(compiled)


def memory_of(compiled):
    """Returns megabytes: what XLA plans for a call, and the most that the process had so far."""
    plan, found = compiled.memory_analysis(), {}
    if plan is not None:
        names = ("temp", "argument", "output")
        sizes = {name: getattr(plan, f"{name}_size_in_bytes") for name in names}
        found["temporary MB"] = sizes["temp"] / 1e6
        found["memory MB"] = (sum(sizes.values()) - plan.alias_size_in_bytes) / 1e6
    statistics = jax.devices()[0].memory_stats() or {}
    if "peak_bytes_in_use" in statistics:
        found["peak of the process MB"] = statistics["peak_bytes_in_use"] / 1e6
    return found


# Training.

# Settings by default.
TRAINING = {
    "rate": 4e-3,
    "flat": 0.4,
    "optimizer": "adam",
    "beta_2": 0.99,
    "clip": 1000.0,
    "average": 0.999,
    "warmup": 300.0,
    "seed": 0,
}


def make_update(program, args):
    """Returns one step of the optimiser, `(state, number, rate, x) -> state, (loss, finite)`."""

    def update(state, number, rate, x):
        variables, mean, square, average = map(list, state)
        seed = jnp.stack([jnp.int32(args.seed), number])
        loss, gradients = program.loss_and_gradients(x, seed, variables)
        norm = jnp.sqrt(sum(jnp.sum(g * g) for g in gradients))
        finite = jnp.isfinite(norm)
        time = number.astype(jnp.float32) + 1
        rate = jnp.where(finite, rate * jnp.minimum(1.0, time / args.warmup), 0.0)
        momentum = jnp.minimum(args.average, (1 + time) / (10 + time))
        for gradient, (i, _) in zip(gradients, program.trained, strict=True):
            gradient = jnp.nan_to_num(gradient) * jnp.minimum(1.0, args.clip / norm)
            mean[i] = 0.9 * mean[i] + 0.1 * gradient
            if args.optimizer == "adam":
                square[i] = args.beta_2 * square[i] + (1 - args.beta_2) * gradient**2
                scale = jnp.sqrt(square[i] / (1 - args.beta_2**time))
            else:
                square[i] = scale = jnp.maximum(args.beta_2 * square[i], jnp.abs(gradient))
            variables[i] -= rate * mean[i] / (1 - 0.9**time) / (scale + 1e-8)
            average[i] = momentum * average[i] + (1 - momentum) * variables[i]
        return (variables, mean, square, average), (loss, finite)

    return update


def make_step(program, args):
    """Returns one step of training for `lax.scan`: `(state, (number, rate, rows), images)`."""
    update = make_update(program, args)

    def step(state, numbered, images):
        number, rate, rows = numbered
        mirrored = jax.random.bernoulli(
            jax.random.fold_in(jax.random.key(args.seed), number), 0.5, [len(rows), 1, 1, 1]
        )
        x = images[rows]
        if program.unit.about["recipe"]["flip"]:
            x = jnp.where(mirrored, x[:, :, ::-1], x)
        return update(state, number, rate, x)

    return step


class Images:
    """The files of training images that are there, on the device; more may come meanwhile."""

    def __init__(self, program, folder, seed):
        self._pattern, self._count = str(folder / "train*.npy"), program.unit.about["num_train"]
        self._batch_size, self._random = program.batch_size, np.random.default_rng(seed)
        self._files, self._order, self.array = [], np.zeros(0, np.int32), None
        while not self.look():
            time.sleep(1)

    def look(self):
        """Takes files that have come; returns whether there are any."""
        files = sorted(glob.glob(self._pattern))
        if files != self._files:
            self.array, self._found = pad([np.load(file) for file in files], self._count)
            self._files, self._order = files, self._order[:0]
            print(f"{self._found} images to train on", flush=True)
        return bool(files)

    def rows(self):
        """Returns the images of the next steps, each pass in a new order."""
        size = CHUNK * self._batch_size
        while len(self._order) < size:
            more = self._random.permutation(self._found).astype(np.int32)
            self._order = np.concatenate([self._order, more])
        rows, self._order = self._order[:size], self._order[size:]
        return rows.reshape(CHUNK, -1)


def pad(parts, count):
    """Returns images on the device, `count` with zeros at the end, and how many there are."""
    images = np.concatenate(parts)
    padding = np.zeros([count - len(images), *images.shape[1:]], images.dtype)
    return jax.device_put(np.concatenate([images, padding])), len(images)


def train(args):
    """Trains until the time is spent."""
    [program] = Unit(args.folder).programs
    program.precision = "highest" if args.precision == "highest" else "default"
    images = Images(program, args.folder, args.seed)
    validation, num_validation = pad(
        [np.load(args.folder / "validation.npy")], program.unit.about["num_train"]
    )
    state, number, spent, curve = start_or_resume(program, args.folder / "trained.npz")
    step = make_step(program, args)

    def steps(state, first, rates, rows, images):
        numbers = first + jnp.arange(CHUNK)
        return jax.lax.scan(lambda s, n: step(s, n, images), state, (numbers, rates, rows))

    begun = time.time()
    nothing = np.zeros(CHUNK, np.float32)
    arguments = state, jnp.int32(0), nothing, images.rows(), images.array
    compiled = jax.jit(steps).lower(*arguments).compile()
    print(f"{device()}: compiled in {time.time() - begun:.1f} s", flush=True)

    def score(variables):  # Steps with a rate of 0, and noise that no training draws.
        rows = np.arange(CHUNK * program.batch_size, dtype=np.int32) % num_validation
        rows = rows.reshape(CHUNK, -1)
        _, (losses, _) = compiled(
            (variables, *state[1:]), jnp.int32(2**30), nothing, rows, validation
        )
        return program.bits_per_dim(jnp.mean(losses))

    done, first = spent, number
    begun = shown = saved = time.time()
    while True:
        part = spent / args.seconds
        rate = args.rate * min(1.0, max(0.0, (1 - part) / (1 - args.flat)))
        images.look()
        rates, rows = np.full(CHUNK, rate, np.float32), images.rows()
        state, (losses, finite) = compiled(state, jnp.int32(number), rates, rows, images.array)
        loss = program.bits_per_dim(jnp.mean(losses))  # Waits for the device.
        number, now = number + CHUNK, time.time()
        spent = done + now - begun
        if now - shown > 10 or spent >= args.seconds:
            speed = program.batch_size * (number - first) / (now - begun)
            left_out = int(np.sum(~np.asarray(finite)))
            print(
                f"{spent:6.0f} s, step {number}: {loss:.4f} bits/dim, {speed:.0f} images/s"
                + (f", {left_out} steps left out, not finite" if left_out else ""),
                flush=True,
            )
            curve.append({"step": number, "bits_per_dim": loss})
            shown = now
        if now - saved > 60 or spent >= args.seconds:
            averaged = score(state[3])
            print(f"       averaged: validation {averaged:.4f} bits/dim", flush=True)
            curve.append({"step": number, "val_bits_per_dim": averaged})
            training = {
                "loss": loss,
                "curve": curve,
                "seconds": round(spent),
                "batch_size": program.batch_size,
                "device": f"one {device()}",
                "jax": jax.__version__,
                "command": command(args),
            }
            save(args.folder / "trained.npz", state, number, training)
            saved = time.time()
        if spent >= args.seconds:
            return True


def command(args):
    """Returns the command line, with the folder's name as in the docs."""
    words = [word for word in sys.argv[1:] if not word.startswith("--folder")]
    return shlex.join(
        ["python", "benchmarks/accelerator_jax.py", *words, f"--folder=runs/{args.folder.name}"]
    )


def first_state(program):
    """Returns the state of a training that begins: variables, two moments, average."""
    start = [jnp.asarray(v) for v in program.variables]
    zeros = [jnp.zeros_like(v) for v in start]
    return start, zeros, zeros, start


def start_or_resume(program, path):
    """Returns the state of a training, the steps and seconds that it took, and its curve."""
    count = len(program.variables)
    if not path.exists():
        return first_state(program), 0, 0.0, []
    with np.load(path) as file:
        parts = ("current", "mean", "square", "variable")
        state = tuple([jnp.asarray(file[f"{part}{i}"]) for i in range(count)] for part in parts)
        training = json.loads(str(file["training"]))
        return state, int(file["steps"]), training["seconds"], training["curve"]


def save(path, state, number, training):
    """Writes the state, the averaged variables under the name of a program's variables."""
    arrays = {}
    for part, values in zip(("current", "mean", "square", "variable"), state, strict=True):
        arrays |= {f"{part}{i}": np.asarray(value) for i, value in enumerate(values)}
    unfinished = path.with_suffix(".unfinished.npz")
    np.savez(unfinished, steps=number, training=json.dumps(training), **arrays)
    os.replace(unfinished, path)


def main():
    """Reads the arguments and runs; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("action", choices=["right", "fast", "lower", "check", "train"])
    parser.add_argument("--folder", type=pathlib.Path, required=True, help="of the programs")
    parser.add_argument("--results", type=pathlib.Path, help="folder of the JSON files (--folder)")
    parser.add_argument(
        "--seconds", type=float, help="to train, in all (300); to begin programs of right and fast"
    )
    parser.add_argument(
        "--precision",
        choices=["auto", "default", "highest", "both"],
        default="auto",
        help="of products in float32; auto: of right both on a GPU, of fast default",
    )
    parser.add_argument("--tolerance", type=float, default=1e-4, help="of check, relative")
    workers = max(1, min(8, len(os.sched_getaffinity(0)) // 2))
    parser.add_argument("--workers", type=int, default=workers, help="programs compiled at once")
    parser.add_argument("--burst", type=float, default=1.0, help="seconds of a timing, of three")
    parser.add_argument("--rate", type=float, default=TRAINING["rate"])
    parser.add_argument("--flat", type=float, default=TRAINING["flat"], help="before it falls")
    parser.add_argument("--optimizer", choices=["adam", "adamax"], default="adam")
    parser.add_argument("--beta_2", type=float, default=TRAINING["beta_2"])
    parser.add_argument("--clip", type=float, default=TRAINING["clip"], help="norm of the gradient")
    parser.add_argument("--average", type=float, default=TRAINING["average"], help="momentum")
    parser.add_argument("--warmup", type=float, default=TRAINING["warmup"], help="steps")
    parser.add_argument("--seed", type=int, default=TRAINING["seed"])
    args = parser.parse_args()
    if jax is None:
        raise SystemExit("Install benchmarks/requirements-accelerator.txt: there is no JAX.")
    if args.action in ("check", "train") and not (args.folder / ABOUT).exists():
        raise SystemExit(f"--folder must be one of `benchmarks.accelerator write`: {args.folder}.")
    if args.seconds is None:
        args.seconds = 300.0 if args.action == "train" else float("inf")
    actions = {"right": right, "fast": fast, "lower": lower, "check": check, "train": train}
    return int(not actions[args.action](args))


if __name__ == "__main__":
    sys.exit(main())
