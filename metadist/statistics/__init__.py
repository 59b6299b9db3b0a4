"""Figures with their uncertainty: intervals over episodes, over new classes, of differences."""
