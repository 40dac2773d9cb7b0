"""`python -m openreward_gym`: the command line."""

from openreward_gym.cli import main

main()
