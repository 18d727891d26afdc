"""Numbered points, slices and parts of a sweep; exact Pareto fronts over a stream of them."""
