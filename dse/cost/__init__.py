"""What is true: FLOPs, bytes, seconds and memory as arrays. NumPy in, NumPy out; no files, clocks or randomness."""

COST_MODEL = 2
"""Version of the formulas and default efficiencies: part of every result's hash. Bump when numbers change."""
