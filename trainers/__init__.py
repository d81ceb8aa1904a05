"""Command-line programs that train, evaluate and sample the models of the zoo."""

import os
import sys

# TensorFlow turns oneDNN off by itself on CPUs without VNNI, where it is much faster all the same:
# docs/performance.md. Read when TensorFlow is imported, hence here.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

# Python looks for `trainers.train`, or another program, to run it; or this is a process of one.
if sys.argv[:1] == ["-m"] or os.path.dirname(sys.argv[0]) == os.path.dirname(__file__):
    from trainers import program

    program.start()
