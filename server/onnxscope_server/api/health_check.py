"""Asks a server's gRPC health service and exits with the answer: what a container's health check runs."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

SECONDS = 4.0


def serving(target: str, credentials: grpc.ChannelCredentials | None = None) -> bool:
    """Says whether the server at `target` is up and says SERVING."""
    channel = grpc.secure_channel(target, credentials) if credentials else grpc.insecure_channel(target)
    with channel:
        check = health_pb2_grpc.HealthStub(channel).Check
        try:
            answer = check(health_pb2.HealthCheckRequest(), timeout=SECONDS, wait_for_ready=True)
        except grpc.RpcError:
            return False
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


def main() -> int:
    """Checks the server of this machine on the port that its environment names."""
    port = os.environ.get("ONNXSCOPE_PORT", "8001")
    target = sys.argv[1] if len(sys.argv) > 1 else f"localhost:{port}"
    authority = os.environ.get("ONNXSCOPE_TLS_CERT")
    credentials = grpc.ssl_channel_credentials(Path(authority).read_bytes()) if authority else None
    return 0 if serving(target, credentials) else 1


if __name__ == "__main__":
    sys.exit(main())
