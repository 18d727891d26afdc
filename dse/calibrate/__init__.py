"""Predictions against measurements: the schema of measured rows, what each means, errors, and fits."""
