"""Everything that calls Salesforce."""

from asapp.salesforce import without_soap  # noqa: F401 - before simple_salesforce is imported
