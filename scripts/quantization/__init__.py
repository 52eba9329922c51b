"""INT8: fake quantisation, ranges, integers. It names no architecture: a module says itself how it is quantised.

May import `files` to `engine`.
"""
