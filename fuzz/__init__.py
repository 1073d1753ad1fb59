"""Everything that parses bytes of others, fed with bytes that a coverage-guided fuzzer thinks of (`make fuzz`)."""
