"""One function per verb of the command line; heavy imports happen inside them."""
