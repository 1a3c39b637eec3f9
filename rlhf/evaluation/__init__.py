"""What a policy is worth: prompts, judges, statistics, the report."""
