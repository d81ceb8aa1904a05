"""Builders of models, one module a family: from sizes and a seed to a distribution."""
