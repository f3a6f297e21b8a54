"""Models as people write them: each file imports torch, and nothing of gpugrad."""
