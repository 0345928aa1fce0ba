"""Scores, their statistics and the one table from which every number is computed."""
