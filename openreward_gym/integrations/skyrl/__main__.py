"""`python -m openreward_gym.integrations.skyrl`: SkyRL's training on OpenReward environments."""

from openreward_gym.integrations.skyrl import main

if __name__ == "__main__":
    main()
