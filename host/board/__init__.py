"""A board behind its byte link: transport, requests, loader, session slots, pipeline of runs."""
