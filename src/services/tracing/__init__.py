"""Spans of requests for OpenTelemetry, made from the story of a request when it is over."""
