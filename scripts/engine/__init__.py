"""The one training loop, and what it needs: the seam, checkpoints, devices, optimizers, the log, processes.

`architecture` and `layers` stand below all that trains. May import `files` to `data`.
"""
