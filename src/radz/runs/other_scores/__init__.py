"""Scores that any other model has made: from its table to a folder of results."""
