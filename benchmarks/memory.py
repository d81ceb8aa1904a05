"""Peak memory and time of a training step, for each way to keep what its gradient needs.

python -m benchmarks.memory [--depths | --repeats] [--model=NAME] [--memory=MODE] [--loop=on]
                            [--no_update] [--jit] [--output=results.json] [--quick]

Each configuration is a step of `FlowModel` in a process of its own. Memory is the largest resident
size of the process from its first step on, less what it was before, with the step traced already.
Time is that of the clock, and that of all cores, which other processes disturb less.
"""

import argparse
import dataclasses
import importlib
import itertools
import json
import pathlib
import resource
import subprocess
import sys
import time

from benchmarks import measuring

STATUS = pathlib.Path("/proc/self/status")


@dataclasses.dataclass(frozen=True)
class Case:
    """A model of the zoo at a batch size.

    Attributes:
      model: its name.
      batch_size: images a step.
      overrides: arguments of the architecture.
    """

    model: str
    batch_size: int
    overrides: dict = dataclasses.field(default_factory=dict)


CASES = [
    # The first level of the balanced flows is 3/4 of their memory, and the others take as long to
    # trace; of 1024x1024 a quarter of the pixels, which has to fit without recomputation too.
    Case("balanced.cifar10", 128, {"steps": [16]}),
    Case("glow.cifar10_small", 256),
    Case("balanced.celebahq1024", 1, {"image_shape": [512, 512, 3], "steps": [12]}),
]
# Deep flows of layers that repeat: dense networks, convolutions.
REPEATS = [
    Case("glow.two_moons", 512, {"num_blocks": 96}),
    Case("balanced.two_moons", 512, {"num_blocks": 96}),
    Case("glow.cifar10_small", 32, {"steps": [32] * 3, "exponentials": 0}),
    Case("balanced.cifar10_small", 32, {"steps": [32] * 3, "width": 32}),
]
# One level of blocks, of which there are more and more.
DEPTHS = [
    Case("balanced.cifar10_small", 256, {"steps": [depth], "width": 64})
    for depth in (4, 8, 16, 32, 64)
]
QUICK = [Case("balanced.digits", 64, {"steps": [1, 1]})]
MODES = ("store", "recompute", "invert")


def resident() -> float:
    """Returns the resident size of this process in MB; without /proc, the largest so far."""
    return _status("VmRSS") if STATUS.exists() else _largest()


def _largest() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return usage / (1e6 if sys.platform == "darwin" else 1e3)


def peak() -> float:
    """Returns the largest resident size since `forget_peak` in MB."""
    return _status("VmHWM") if STATUS.exists() else _largest()


def forget_peak():
    """Starts a new measurement of the peak, where the system can (Linux)."""
    path = pathlib.Path("/proc/self/clear_refs")
    if path.exists():
        path.write_text("5")


def _status(key: str) -> float:
    line = next(s for s in STATUS.read_text().splitlines() if s.startswith(key + ":"))
    return int(line.split()[1]) * 1024 / 1e6


def measure(
    case: Case, memory: str, loop: bool, jit: bool, steps: int, update: bool = True
) -> dict[str, float]:
    """Returns seconds and MB of a training step; to be called in a new process.

    Args:
      case: what to train.
      memory: argument of `FlowModel`.
      loop: argument of `FlowModel`.
      jit: whether XLA compiles the step.
      steps: steps to time, after one that does not count.
      update: whether the optimiser is part of the step.
    """
    # These import TensorFlow, which reads its settings once.
    np, tf, tfflows, zoo, schedules = map(
        importlib.import_module,
        ("numpy", "tensorflow", "tfflows", "zoo", "trainers.runs.schedules"),
    )
    entry = zoo.find(case.model)
    model = tfflows.FlowModel(entry.build(**case.overrides), memory=memory, loop=loop)
    model.compile(schedules.make_optimizer(entry.recipe, steps_per_pass=1000), jit_compile=jit)
    model.optimizer.build(model.trainable_weights)
    shape = [case.batch_size, *model.distribution.event_shape]
    if model.distribution.dtype.is_floating:
        images = tf.constant(np.random.default_rng(0).normal(size=shape), tf.float32)
    else:
        images = np.random.default_rng(0).integers(entry.num_levels, size=shape)
        images = tf.constant(images, tf.uint8)
    start = time.perf_counter()
    if update:
        step = tf.function(model.train_step, autograph=False).get_concrete_function(images)
    else:
        gradients = model._make_loss_and_gradients()
        gradients = gradients.get_concrete_function(images, tf.constant([0, 0]))

        def step(images):
            return {"bits_per_dim": gradients(images, tf.constant([0, 0]))[0]}

    tracing = time.perf_counter() - start
    before = resident()
    forget_peak()
    times = []
    for _ in range(steps + 1):
        start = time.perf_counter(), time.process_time()
        bits = float(step(images)["bits_per_dim"])
        times.append((time.perf_counter() - start[0], time.process_time() - start[1]))
    seconds, core_seconds = np.median(times[1:], axis=0).tolist()
    if not np.isfinite(bits):
        raise ArithmeticError(f"The loss is not finite. Received: {bits}.")
    return {
        "memory MB": peak() - before,
        "peak MB": peak(),
        "step s": seconds,
        "step core s": core_seconds,
        "first step s": times[0][0],
        "tracing s": tracing,
    }


def measure_apart(number: int, memory: str, loop: str, batch_size: int) -> dict[str, float]:
    """Returns what `measure` does, from a process of its own."""
    command = [sys.executable, "-m", "benchmarks.memory", *sys.argv[1:]]
    command += [f"--child={number}", f"--memory={memory}", f"--loop={loop}"]
    command += [f"--child_batch={batch_size}"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def parse_flags():
    """Returns the flags and the cases they choose."""
    parser = measuring.flag_parser(__doc__.splitlines()[0])
    parser.add_argument("--model", help="a model of the zoo in place of the usual ones")
    parser.add_argument("--batch_size", type=int, help="images a step of --model")
    parser.add_argument("--set", default="{}", help="arguments of its architecture, as JSON")
    parser.add_argument("--jit", action="store_true", help="let XLA compile the step")
    parser.add_argument("--steps", type=int, default=3, help="steps to time, after the first")
    parser.add_argument("--depths", action="store_true", help="4 to 64 blocks of one level")
    parser.add_argument("--repeats", action="store_true", help="deep flows, with loops and without")
    parser.add_argument("--loop", choices=("off", "on"), help="whether layers that repeat are one")
    parser.add_argument("--no_update", action="store_true", help="gradients without the optimiser")
    parser.add_argument("--memory", choices=MODES, help="only this mode")
    parser.add_argument("--child", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--child_batch", type=int, help=argparse.SUPPRESS)
    flags = parser.parse_args()
    if not flags.model:
        usual = DEPTHS if flags.depths else REPEATS if flags.repeats else CASES
        return flags, QUICK if flags.quick else usual
    return flags, [Case(flags.model, flags.batch_size or 1, json.loads(flags.set))]


def main():
    """Measures each configuration in a process, prints the table, writes the JSON."""
    flags, cases = parse_flags()
    measuring.set_up_tensorflow(flags.onednn)
    if flags.child is not None:
        steps = 1 if flags.quick else flags.steps
        case = dataclasses.replace(cases[flags.child], batch_size=flags.child_batch)
        print(
            json.dumps(
                measure(
                    case, flags.memory, flags.loop == "on", flags.jit, steps, not flags.no_update
                )
            )
        )
        return
    environment = measuring.environment(["tensorflow", "tensorflow-probability", "keras", "numpy"])
    measuring.print_values(environment | {"XLA": flags.jit})
    rows = []
    loops = [flags.loop] if flags.loop else ["off", "on"] if flags.repeats else ["off"]
    memories = [flags.memory] if flags.memory else ["store"] if flags.repeats else MODES
    for number, case in enumerate(cases):
        for memory, loop in itertools.product(memories, loops):
            found = measure_apart(number, memory, loop, case.batch_size)
            if not flags.repeats:
                one = measure_apart(number, memory, loop, 1)["memory MB"]
                found = {"of the batch MB": found["memory MB"] - one} | found
            name = " ".join([case.model, *(f"{k}={v}" for k, v in case.overrides.items())])
            rows.append(
                {"model": name, "batch": case.batch_size, "memory": memory, "loop": loop} | found
            )
    measuring.print_table(rows)
    results = {"environment": environment, "XLA": flags.jit, "results": rows}
    measuring.write_results(flags.output, results)


if __name__ == "__main__":
    measuring.run(main)
