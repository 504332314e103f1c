"""Telling Salesforce when a person unsubscribes, where the firm wants that: Email Opt Out is set on the advisor's own records."""
