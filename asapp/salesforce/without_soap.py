"""simple_salesforce without zeep, the SOAP client of its Metadata API, which asapp doesn't use.

With all that it brings (lxml, an HTTP client of its own), zeep takes 10 MB of every process, so a stand-in is imported in its
place. To use the Metadata API, delete this module. It has to be imported before simple_salesforce.
"""

from __future__ import annotations

import sys
from types import ModuleType

NAMES = {"zeep": ("Client", "Settings"), "zeep.proxy": ("ServiceProxy",)} | {
    "zeep.xsd": ("AnySimpleType", "ComplexType", "CompoundValue")
}


def _import_without() -> None:
    if "zeep" in sys.modules or "simple_salesforce" in sys.modules:
        return
    for name, contents in NAMES.items():
        stand_in = ModuleType(name)
        for each in contents:
            setattr(stand_in, each, type(each, (), {}))
        sys.modules[name] = stand_in
    try:
        import simple_salesforce  # noqa: F401
    finally:
        for name in NAMES:
            del sys.modules[name]


_import_without()
