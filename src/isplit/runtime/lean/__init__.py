"""The lean wire between isplit's own client and server, without a connection: encode and decode its frames.

    device                                server
    hello (magic, token)          -->
                                  <--     welcome (magic)
    opening (slot, model, ...)    -->
    request (slot, number, ...)   -->
                                  <--     answer (number, ...) or error (number, ...)

A model's name is sent once, in an opening; requests give the slot that it was opened at. docs/wire.md lists every
byte. All numbers are big endian but for logits, which are sent as in the Open Inference Protocol.
"""
