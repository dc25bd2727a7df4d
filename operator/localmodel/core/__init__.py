"""The decisions. Pure functions from what was asked and observed to what should be. No I/O, no clock, no randomness."""
