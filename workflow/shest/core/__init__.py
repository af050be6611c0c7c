"""What everything rests on: errors, files written whole, provenance, messages. Imports nothing above it."""
