"""A run that goes to the platform while it is collected: beside the collection, never in its way."""

from __future__ import annotations

import asyncio

from openreward_gym.collect.plan import Plan
from openreward_gym.collect.progress import Reporter
from openreward_gym.collect.stopping import Stop
from openreward_gym.platform import Uploader, UploadReport
from openreward_gym.store.store import RolloutStore

PATIENCE_S = 60.0
"""Seconds without success after which it stops trying, until another rollout is there."""
LOOK_EVERY_S = 0.2


class Uploading:
    """The upload of a run that is being collected; nothing where it was not asked for.

    The run's folder is the spool, so that a rollout is on disk before it is sent, and what is not sent goes with the next
    collection or with `openreward-gym upload`.
    """

    def __init__(self, plan: Plan, store: RolloutStore) -> None:
        self._path = store.path
        self._uploader: Uploader | None = None
        if plan.upload:
            base_url = plan.upload if isinstance(plan.upload, str) else None
            self._uploader = Uploader(store, base_url=base_url, patience_s=PATIENCE_S)

    def wake(self) -> None:
        """A rollout was written."""
        if self._uploader is not None:
            self._uploader.wake()

    async def finish(self, report: Reporter, stop: Stop) -> UploadReport | None:
        """Wait until all is sent, the uploader gives up, or `stop` stops at once; then say how it stands."""
        uploader = self._uploader
        if uploader is None:
            return None
        uploader.wake()
        while stop.wanted != "now" and not await asyncio.to_thread(uploader.wait_settled, LOOK_EVERY_S):
            pass
        found = await asyncio.to_thread(uploader.close, 0.0)
        self._uploader = None
        report.say(f"upload: {found}")
        if not found.complete:
            report.say(f"what is not sent stays in the run: openreward-gym upload {self._path}")
        return found

    def abandon(self) -> None:
        """Stop sending: the collection ended with an error."""
        uploader, self._uploader = self._uploader, None
        if uploader is not None:
            uploader.close(0.0)
