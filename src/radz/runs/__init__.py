"""What a run does, from its experiment to its page."""
