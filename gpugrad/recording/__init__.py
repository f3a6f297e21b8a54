"""Recorded steps: ``graph_step``."""
from gpugrad.recording.step import GraphStep as GraphStep
from gpugrad.recording.step import graph_step as graph_step
