"""The prepared dataset: making and reading it, augmentation, samples to measure on. May import the rooms above it."""
