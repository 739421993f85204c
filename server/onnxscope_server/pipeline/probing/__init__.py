"""Probes fitted on a model's activations: one pass over the rows, then a fit at each hook point."""
