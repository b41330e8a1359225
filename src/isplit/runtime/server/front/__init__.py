"""Speak gRPC over HTTP/2 with a bound on everything that a peer can make the server hold.

    listener --accepts--> channel (plain or TLS) --bytes--> connection (HTTP/2) --> call --message--> method
        |                    |                                   |                    |
    how many            strangers' share of                 token, before a      bytes and calls that
    connections         processor time                      byte is read         have not arrived: `receiving`

gRPC's own server reads a message before its handler can refuse it, and cannot bound how many bytes or calls wait
half-received. This package therefore speaks HTTP/2 through the library h2, which leaves every flow-control window to
its caller: bytes arrive only when there is room for them. docs/server-attacks.md gives the measurements.
"""
