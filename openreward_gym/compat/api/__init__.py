"""The modules of the official client below `openreward.api`."""
