"""Ground floor: from corpora on disk to batches of studies. Never imports radz."""
