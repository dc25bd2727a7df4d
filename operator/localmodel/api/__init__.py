"""What users and the wire see. Pydantic and the standard library only: no I/O, no Kubernetes, no decisions."""
