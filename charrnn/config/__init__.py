"""Configuration: the schema, the YAML loader with line numbers, and where configs are found."""
