# This image runs the three demos on a CPU. docs/demos.md has the commands; it does not start without --auth or --no-auth.
FROM python:3.12-slim-bookworm

# system libraries that OpenCV's wheel needs
RUN apt-get update \
 && apt-get install -y --no-install-recommends libgl1 libglib2.0-0 \
 && rm -rf /var/lib/apt/lists/*

WORKDIR /app
COPY constraints.txt pyproject.toml README.md LICENSE ./

# On x86_64 the usual torch brings CUDA's libraries (gigabytes). PyTorch's index of CPU wheels, if given, has the same
# versions of torch and torchvision without them. Both must come from it, or torchvision's operators are missing.
ARG TORCH_CPU_INDEX=""
RUN if [ -n "$TORCH_CPU_INDEX" ]; then \
      python -m pip install --no-cache-dir torch torchvision -c constraints.txt --index-url "$TORCH_CPU_INDEX"; \
    fi

COPY backbone backbone
COPY apps apps
COPY demos demos
RUN python -m pip install --no-cache-dir -e ".[fast]" -c constraints.txt \
 && useradd --create-home --uid 1000 demo \
 && mkdir runs && chown demo runs

USER demo
ENV PYTHONUNBUFFERED=1 NO_ALBUMENTATIONS_UPDATE=1
EXPOSE 7860
HEALTHCHECK --start-period=60s CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:7860/', timeout=5)"]

# other machines reach the container's address, so the page requires --auth USER:PASSWORD, which `docker run` adds here
ENTRYPOINT ["python", "demos/app.py", "--host", "0.0.0.0", "--port", "7860"]
