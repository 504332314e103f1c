"""SOQL: text -> tokens -> tree -> SQL over the org's store. Any statement of the grammar works; nothing is recognised."""

from __future__ import annotations

from asapp.simulator.soql.compiler import Access, Plan, compile_query
from asapp.simulator.soql.parser import parse

__all__ = ["Access", "Plan", "compile_query", "parse"]
