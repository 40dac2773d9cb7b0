"""`python -m openreward_gym.integrations.skyrl`: SkyRL's training on OpenReward environments."""

import sys

from openreward_gym.errors import ConfigurationError, MissingExtraError
from openreward_gym.integrations.skyrl import main

if __name__ == "__main__":
    try:
        main()
    except (ConfigurationError, MissingExtraError) as error:
        sys.exit(f"openreward_gym.integrations.skyrl: {error}")
