"""The schema of experiments, its checks; finding, inheriting and overriding their files."""
