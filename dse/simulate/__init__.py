"""Discrete-event check of serving: traces of requests replayed through the cost model's step times."""
