"""What every client script does: run named steps, and print how each ended as one line of JSON.

Runs within the environments of the clients, so it needs nothing but Python.
"""

import json
import sys
import time
import traceback


class Steps:
    """Operations by name; one that fails does not keep the others from running."""

    def __init__(self):
        self.failed = 0

    def __call__(self, name):
        def run(operation):
            began = time.monotonic()
            fault = None
            try:
                operation()
            except (Exception, SystemExit):  # noqa: BLE001  # whatever it raises is the result
                fault = traceback.format_exc()
                self.failed += 1
            seconds = round(time.monotonic() - began, 2)
            line = {"operation": name, "seconds": seconds, "fault": fault}
            sys.stdout.write(json.dumps(line) + "\n")
            sys.stdout.flush()
            return operation

        return run


def same(found, wanted):
    """Fail where two values differ, and say both."""
    if found != wanted:
        raise AssertionError(f"found {found!r}, wanted {wanted!r}")
