"""Implement the verbs that need several parts of the package: `profile`, `bench` and `auto`."""
