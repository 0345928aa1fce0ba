"""`make paper`: the tables and figures of LLaVA-RadZ (arXiv 2503.07487) on one page, beside published numbers."""
