"""A plugin on trial: `python -m zoo.plugin.trial JOB RESULT`, run by `zoo.plugin.doctor` in a process of its own.

JOB is a JSON file: `paths` for `sys.path`, the plugin's `record`, and `rows` [(model, factory, config)]. Every step is
written to RESULT before it is taken, so that whoever finds this process dead or stuck knows where it was.
"""

from __future__ import annotations

import json
import sys


def main(job_path: str, result_path: str) -> None:
    """Import every factory and build one model of each on the meta device."""
    with open(job_path, encoding="utf-8") as stream:
        job = json.load(stream)
    sys.path[:] = job["paths"]
    from zoo.errors import PluginError
    from zoo.plugin.loading import load_factory
    from zoo.plugin.state import PluginRecord

    record = PluginRecord(*job["record"])
    with open(result_path, "a", encoding="utf-8") as result:

        def say(**line: str) -> None:
            print(json.dumps(line), file=result, flush=True)

        for name, factory, config in job["rows"]:
            try:
                say(step=f"importing {factory}")
                cls = load_factory(factory, record)
                say(step=f"building {name}")
                import torch

                with torch.device("meta"):
                    cls(config)
            except PluginError as error:
                say(state=error.state, reason=error.message.partition(": ")[2], fix=error.fix or "")
            except (Exception, SystemExit) as error:
                say(state="contract-failed", reason=f"building {name} raised {type(error).__name__}: {error}", fix="")
        say(done="yes")


if __name__ == "__main__":
    main(*sys.argv[1:])
