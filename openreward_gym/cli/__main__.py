from openreward_gym.cli import main

main()
