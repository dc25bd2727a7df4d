"""One builder per kind of child object. A builder returns the complete desired object and never reads the cluster."""
