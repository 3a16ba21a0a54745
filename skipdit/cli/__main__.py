"""python -m skipdit.cli: the command line where no `skipdit` command is installed, and for torchrun -m."""

from skipdit.cli import main

main()
