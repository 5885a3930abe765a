"""Floor 6: the command line, one module per verb: parse, call, print."""
