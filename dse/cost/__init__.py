"""What is true: FLOPs, bytes, seconds and memory as arrays. NumPy in, NumPy out; no files, clocks or randomness."""

COST_MODEL = 4
"""Version of the formulas and default efficiencies: part of every result's hash. Bump when figures change, or
which point a number means (2: layouts come first; 3: sums in fp16; rates stand before batches; 4: waits behind unlike
requests)."""
