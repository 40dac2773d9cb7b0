"""Conformance checks for environments.

Run them against a served environment, usually your own, in one line of a test:

    def test_my_environment():
        with openreward_gym.serve.local([MyEnvironment]) as base_url:
            check_environment(base_url, "myenvironment").raise_for_failures()
"""

from __future__ import annotations

from openreward_gym.testing.clock import CheckProgress
from openreward_gym.testing.conformance import Check, ConformanceReport, check_environment

__all__ = ["Check", "CheckProgress", "ConformanceReport", "check_environment"]
