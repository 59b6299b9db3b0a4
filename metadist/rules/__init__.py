"""Pieces that gradient-based learners share: update rules and the inner loop."""
