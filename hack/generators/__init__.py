"""What is generated from the code, one module per kind of output; hack/generate.py finds them by itself.

A module here has `outputs() -> dict[str, str]`: path relative to the repository's root, and the whole text of that file.
It computes text only: hack/generate.py alone writes and compares.
"""
