"""The built-in scenarios: one TOML file each, and the recordings they refer to. Data, no code.

A scenario names a recording by a path relative to its own file. In a checkout `recordings/`
holds relative links into `tests/recordings/`; in an installed package it holds the files
themselves.
"""
