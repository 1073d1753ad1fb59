"""What Prometheus is told: counters of requests and calls, and the fleet as it is at the moment of a scrape."""
