"""What instances cost and what they did for it: kept by the hour, by instance, model and key; and what is known of the
machines behind them."""
