"""The command line, ``python -m gpugrad``: a file for each command."""
