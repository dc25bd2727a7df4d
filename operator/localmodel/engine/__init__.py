"""The PyTorch engine inside Triton's Python backend. It knows nothing of Kubernetes or HTTP."""
