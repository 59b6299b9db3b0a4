"""Few-shot episodes as a pure function of (dataset digest, part, seed, index).

Importable without torch, ray and metadist. The way of the data::

    datasets.<name> -> class_store -> episodes -> shards -> loader
"""

from __future__ import annotations

__version__ = "0.1.0"
