#!/usr/bin/env python3
"""Stands in for the client under test in the suite's client mode: through.py URL.

URL is the suite's server of one scenario. A gateway is started before it and the client is run against
the gateway; without a gateway in the plan (the environment variable CONFORMANCE_PLAN, JSON) the client
is run against URL itself. Exits as the client does.
"""

import json
import os
import subprocess
import sys
import tempfile
import urllib.parse
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "sdk"))
from parts import Process  # noqa: E402

GRANT = """
[[grant]]
upstream = "suite"
groups = ["everybody"]
tools = ["**"]
prompts = ["**"]
resources = ["**"]
methods = ["**"]
"""


def main():
    plan = json.loads(os.environ["CONFORMANCE_PLAN"])
    url = sys.argv[-1]
    client = [plan["node"], plan["client"]]
    if not plan.get("port"):
        return subprocess.run([*client, url]).returncode
    server = urllib.parse.urlsplit(url)
    target = f"http://127.0.0.1:{server.port}{server.path}"
    with tempfile.TemporaryDirectory(dir=plan["directory"]) as name:
        here = Path(name)
        config = here / "stenograph.toml"
        config.write_text(f"""
[[listen]]
address = "127.0.0.1:{plan['port']}"

[[issuer]]
url = "{plan['issuer']}"
algorithms = ["ES256"]

[[upstream]]
name = "suite"
path = "/suite"
url = "{target}"
resource = "{plan['resource']}"
{GRANT}
[record]
directory = "{here}/record"
signing_key = "{plan['key']}"
fingerprint_key = "{here}/fingerprint.key"
""")
        gateway = Process("gateway", [plan["binary"], "serve", "--config", config], here)
        try:
            gateway.wait_for(r'"event":\s*"ready"')
            return subprocess.run([*client, plan["resource"]]).returncode
        finally:
            gateway.stop()


if __name__ == "__main__":
    sys.exit(main())
