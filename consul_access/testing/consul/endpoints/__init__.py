"""The endpoints: one file a section of the HTTP API, one function an endpoint."""
