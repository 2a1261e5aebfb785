"""A GPU that computes nothing, for machines that have none: PyTorch's code for CUDA runs on it (`build`, `gpu.c`)."""
