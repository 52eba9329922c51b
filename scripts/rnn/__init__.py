"""What only the radical RNN uses.

May import `files` to `engine`.
"""
