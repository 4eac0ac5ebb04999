"""The command line: what an operator asks of a deployment's cache. Needs the extra `cli`."""
