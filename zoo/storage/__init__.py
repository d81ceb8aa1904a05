"""Trained models on disk, which may come from strangers: written whole, checked when read."""
