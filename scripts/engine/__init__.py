"""The one training loop and what it needs: the interface to models, checkpoints, devices, optimizers, processes.

`architecture` and `layers` import nothing of the training loop. May import `files` to `data`.
"""
