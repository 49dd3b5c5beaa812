"""Benchmark of a step, FLOPs, cost estimates."""
