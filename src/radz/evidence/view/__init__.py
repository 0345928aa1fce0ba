"""`radz view`: a page to look with, served to the browser of this machine alone."""
