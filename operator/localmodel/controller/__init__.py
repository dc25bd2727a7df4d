"""The imperative shell around core: watches, applies, reports. It must not decide anything that core could decide."""
