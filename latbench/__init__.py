"""Measure, predict and search the latency of neural architectures on any hardware."""
