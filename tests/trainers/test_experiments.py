"""Names of the runs of experiments."""

from trainers import experiments


def test_names_of_runs_differ():
    for make in experiments.EXPERIMENTS.values():
        names = [r.name for r in make()]
        assert len(set(names)) == len(names)
