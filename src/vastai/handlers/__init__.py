"""Events that come to us: whether they are real, and what they mean. Pure: no network, no clock."""
