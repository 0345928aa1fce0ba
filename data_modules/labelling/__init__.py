"""Labels out of reports: sentences, terms of findings, scopes of negation and doubt, each cell with its proof."""
