"""Models that come from elsewhere than a search space: ONNX files, ``torch.export`` files, factories; their inputs."""
