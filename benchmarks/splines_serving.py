"""What the processes of `benchmarks.splines` share: the shape of the flows, and requests.

A request is a line of JSON on standard input, the answer one on standard output:

    {"build": "zuko", "kind": "affine couplings", "dimension": 2, ...}  -> {"operations": [...]}
    {"time": "samples", "library": "zuko", "seconds": 0.25, "threads": 1}  -> {"seconds": 0.0071}
"""

import importlib.metadata
import json
import sys
from collections.abc import Callable, Mapping, Sequence

from benchmarks import measuring

LAYERS = 4
BOUND = 3.0  # Of the box of the splines.
KINDS = ("affine couplings", "spline couplings", "spline activations")
OPERATIONS = ("log_prob + gradients", "samples")


def serve(
    libraries: Mapping[str, Callable[[dict], dict]],
    packages: Sequence[str],
    set_threads: Callable[[int], object] = lambda threads: None,
):
    """Serves requests until the end of the input.

    Args:
      libraries: functions that take a request and return operations, functions of no arguments.
      packages: distributions whose versions are reported.
      set_threads: sets the number of threads, of a library that has such a number.
    """
    try:
        versions = {package: importlib.metadata.version(package) for package in packages}
    except importlib.metadata.PackageNotFoundError as error:
        versions = {"error": f"no package {error.name}"}
    print(json.dumps(versions), flush=True)
    found = {}
    for line in sys.stdin:
        request = json.loads(line)
        if "build" in request:
            name = request["build"]
            found[name] = libraries[name](request)
            answer = {"operations": list(found[name])}
        else:
            set_threads(request.get("threads"))
            function = found[request["library"]][request["time"]]
            answer = {"seconds": measuring.burst(function, request["seconds"])}
        print(json.dumps(answer), flush=True)
