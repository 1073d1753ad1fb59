"""`python -m vastproxy` is the same as `vastproxy`."""

from vastproxy.cli.main import main

main()
