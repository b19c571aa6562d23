"""Client secrets: mint and verify."""
