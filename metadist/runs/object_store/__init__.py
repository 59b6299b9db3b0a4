"""Runs in an object store that several nodes write to: claims, growing files, bundles.

Objects are put whole and never renamed, and no put depends on what is there. So everything has a
prefix or key of its own writer, and all who read decide by one rule what counts.
"""
