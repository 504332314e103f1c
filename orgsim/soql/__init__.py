"""SOQL: text -> tokens -> tree -> SQL over the org's store. Any statement of the grammar works; nothing is recognised."""

from __future__ import annotations

from orgsim.soql.compiler import Access, Plan, compile_query
from orgsim.soql.parser import parse

__all__ = ["Access", "Plan", "compile_query", "parse"]
