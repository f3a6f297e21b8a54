"""A CUDA device without a GPU: kernels run on the CPU, and a stand-in takes CuPy's place."""
