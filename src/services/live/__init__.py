"""How things go right now and in the last hour: rates, shares and a history, made of counters that exist anyway."""
