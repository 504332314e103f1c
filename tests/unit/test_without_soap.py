"""What processes don't load: it would take memory in each of them."""

from __future__ import annotations

import json
import subprocess
import sys

from devtools.guard import ROOT

ASK = "import json, sys, asapp.jobs.worker; print(json.dumps([each for each in {names} if each in sys.modules]))"


def test_a_worker_loads_no_soap_client_and_no_parser_of_xml() -> None:
    names = ["simple_salesforce", "zeep", "lxml", "httpx"]
    code = ASK.format(names=names)
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == ["simple_salesforce"]
