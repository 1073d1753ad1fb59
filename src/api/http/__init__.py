"""HTTP/1.1 to the client: a protocol for uvicorn's server, made for passing answers on."""
