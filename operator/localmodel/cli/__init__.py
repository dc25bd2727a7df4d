"""The command line. It starts what the other packages make; it must not decide what core decides."""
