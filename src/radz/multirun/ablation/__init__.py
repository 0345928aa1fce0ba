"""Many runs as one piece of work: ablation groups and their page of comparison."""
