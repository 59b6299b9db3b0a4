"""Few-shot episodes as a pure function of (dataset digest, part, seed, index).

Importable without torch, ray and metadist. The way of the data::

    datasets.<name> -> class_store -> episodes -> shards -> loader
"""
