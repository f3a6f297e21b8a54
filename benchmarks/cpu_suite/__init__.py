"""The suite of benchmarks/cpu.py: what is measured, how, and how it is written down."""
