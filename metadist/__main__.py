"""``python -m metadist``."""

from metadist.cli.main import main

main()
