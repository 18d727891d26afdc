"""Measurements: what a machine reaches (`dse probe`), how far predictions are off (`dse validate`), fits."""
