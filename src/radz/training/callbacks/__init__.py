"""What watches a run: metrics, predictions, throughput."""
