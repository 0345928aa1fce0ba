"""`radz export`: a trained run as a folder that transformers loads without radz, and `Radz` without the run."""
