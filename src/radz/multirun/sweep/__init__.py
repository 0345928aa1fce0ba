"""Local sweeps: the YAML of `wandb sweep`, searched on this machine without an account."""
