"""The prepared dataset: making it, reading it, augmenting batches of it, samples to measure on.

May import the rooms above it: `files` to `images`.
"""
