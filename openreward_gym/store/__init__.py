"""Rollouts on disk: a run is a folder of JSONL shards, with images, labels, groups and failures beside them.

`RolloutStore` writes and reads a run; `merge` makes one run of several; the JSON Schema of a line is `rollout_schema()`.
Nothing here imports the network: a run can be read wherever its folder is.
"""

from openreward_gym.store.damage import Damage, Damages, OnDamage, describe
from openreward_gym.store.folder import Compression
from openreward_gym.store.labels import Label, LabelChange, change_label, label_history, read_labels, write_label
from openreward_gym.store.merge import MergeReport, merge
from openreward_gym.store.records import Failure, Group, read_groups
from openreward_gym.store.schema import rollout_schema
from openreward_gym.store.store import RolloutStore, RolloutView
from openreward_gym.store.writer import Fsync

__all__ = [
    "Compression",
    "Damage",
    "Damages",
    "Failure",
    "Fsync",
    "Group",
    "Label",
    "LabelChange",
    "MergeReport",
    "OnDamage",
    "RolloutStore",
    "RolloutView",
    "change_label",
    "describe",
    "label_history",
    "merge",
    "read_groups",
    "read_labels",
    "rollout_schema",
    "write_label",
]
