"""The sidecar that owns a model pod's serving port. It knows nothing of Kubernetes."""
