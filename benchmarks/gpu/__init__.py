"""Every check that needs a GPU, in one go: ``benchmarks/gpu/run.sh``; ``--dry-run`` tests the checks on the CPU."""
