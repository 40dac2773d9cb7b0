"""The answers to the page's requests, one module for each kind of page: lists, charts, comparisons, an opened rollout."""
