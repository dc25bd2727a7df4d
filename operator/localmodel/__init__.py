"""LocalModel: language models on your own machines, as one Kubernetes resource."""

__version__ = "0.1.0"
