"""Names of files of Omniglot as it is published."""

from __future__ import annotations

ZIPS = ("images_background.zip", "images_evaluation.zip")
#: One of its drawings.
ONE = "images_background/Greek/character03/0396_07.png"
