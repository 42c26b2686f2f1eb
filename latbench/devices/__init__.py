"""Facts and state of what is measured on: the host, and NVIDIA's GPUs."""
