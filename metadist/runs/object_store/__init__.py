"""Runs in an object store that several nodes write to: claims, growing files, bundles.

Objects are put whole and never renamed. What is claimed is made where there is none; everything
else has a prefix or key of its own writer, and all who read decide by one rule what counts.
"""
