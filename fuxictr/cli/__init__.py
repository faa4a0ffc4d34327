"""The commands: each parses its options and hands them down."""
