"""Search spaces: one file each, whose name is the name a search asks for.

A space says which keys of a recipe are varied and over which values, and nothing about how trials
are run: that is the part of `metadist.executors`.
"""
