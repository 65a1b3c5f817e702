"""Where the zoo keeps its files: one folder, `$ZOO_HOME`, by default under the platform's cache directory."""

from __future__ import annotations

import os
import sys


def home() -> str:
    """The folder for the catalogue cache, stored weights, pins and user aliases. It need not exist yet."""
    chosen = os.environ.get("ZOO_HOME")
    if chosen:
        return os.path.abspath(os.path.expanduser(chosen))
    if sys.platform == "linux":  # what platformdirs says too; importing it takes as long as a whole `zoo list`
        caches = os.environ.get("XDG_CACHE_HOME", "").strip() or os.path.expanduser("~/.cache")
        return os.path.join(caches, "zoo")
    from platformdirs import user_cache_dir

    return user_cache_dir("zoo", appauthor=False)
