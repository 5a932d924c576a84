"""`python -m streamproc`: the same as the command `streamproc`."""

from streamproc.cli import main

main()
