"""Many runs as one: ablations, the tables of the paper, sweeps."""
