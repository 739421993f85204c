# The server: models in, activations out. Built in one stage, run in another that has no build tools.
FROM python:3.11-slim AS build
WORKDIR /src
COPY pyproject.toml README.md LICENSE CHANGELOG.md ./
COPY client client
COPY server server
RUN python -m venv /opt/onnxscope \
    && /opt/onnxscope/bin/pip install --no-cache-dir --upgrade pip \
    && /opt/onnxscope/bin/pip install --no-cache-dir '.[server]'

FROM python:3.11-slim
RUN groupadd --system --gid 10001 onnxscope \
    && useradd --system --uid 10001 --gid onnxscope --no-create-home --home-dir /nonexistent onnxscope \
    && install -d -o onnxscope -g onnxscope /data /models
COPY --from=build /opt/onnxscope /opt/onnxscope
ENV PATH=/opt/onnxscope/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    ORT_DISABLE_TELEMETRY=1 \
    ONNXSCOPE_HOST=0.0.0.0 \
    ONNXSCOPE_DATA=/data \
    ONNXSCOPE_MODELS=/models
USER 10001:10001
EXPOSE 8001 8002
VOLUME ["/data"]
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "-m", "onnxscope_server.api.health_check"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["onnxscope", "serve"]
