"""SOQL: text -> tokens -> tree -> SQL over the org's store. It accepts any statement of the grammar."""

from __future__ import annotations

from orgsim.soql.compiler import Access, Plan, compile_query
from orgsim.soql.parser import parse

__all__ = ["Access", "Plan", "compile_query", "parse"]
