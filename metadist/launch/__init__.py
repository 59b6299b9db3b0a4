"""Starting workers: in this process, or on Ray. The only rooms that import ray are in here."""
