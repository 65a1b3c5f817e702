"""Where the zoo keeps its files: one folder, `$ZOO_HOME`, by default under the platform's cache directory."""

from __future__ import annotations

import os


def home() -> str:
    """The folder for the catalogue cache, stored weights, pins and user aliases. It need not exist yet."""
    chosen = os.environ.get("ZOO_HOME")
    if chosen:
        return os.path.abspath(os.path.expanduser(chosen))
    from platformdirs import user_cache_dir  # only without ZOO_HOME: not on the way of every `zoo list`

    return user_cache_dir("zoo", appauthor=False)
