"""`python -m workers.cli`: the console script where it is not on the PATH."""

from workers.cli.main import main

main()
