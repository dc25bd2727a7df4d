"""The local two-node Kubernetes cluster that tests and the demo run on.

Standard library only, so that `python3 hack/cluster/main.py up` needs no virtual environment.
Nothing in here may know of LocalModel itself: it is a plain cluster.
"""
