"""The commands of the command line, one module a topic. The only users of typer, with cli.py."""
