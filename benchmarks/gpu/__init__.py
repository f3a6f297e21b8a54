"""The suites of benchmarks/gpu_check.py: what is measured on a GPU, how, and how it is kept."""
