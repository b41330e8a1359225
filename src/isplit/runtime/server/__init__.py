"""Serve a bundle on the lean wire and over gRPC, with tails and whole models in onnxruntime or on Ray.

import asyncio
from isplit.runtime.bundle import Bundle
from isplit.runtime.server import ServerSettings, serve
asyncio.run(serve(Bundle.open("bundle"), ServerSettings(port=8001)))
"""

from isplit.runtime.server.models import EngineFactory
from isplit.runtime.server.run import serve, serving
from isplit.runtime.server.security import ServerTls
from isplit.runtime.server.server import Server
from isplit.runtime.server.settings import ServerSettings

__all__ = ["EngineFactory", "Server", "ServerSettings", "ServerTls", "serve", "serving"]
