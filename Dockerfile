# One image for the code server, webserver, daemon and Ray node. The torch wheel carries CUDA and runs without it.
FROM python:3.11.14-slim-bookworm AS build
COPY requirements.lock /tmp/
RUN pip install --no-cache-dir "$(grep -om1 '^uv==[^ ]*' /tmp/requirements.lock)" \
 && uv venv /opt/venv \
 && uv pip sync --no-cache --compile-bytecode --python /opt/venv/bin/python --require-hashes /tmp/requirements.lock
COPY . /opt/twigma
RUN uv pip install --python /opt/venv/bin/python --no-deps --no-build-isolation --editable /opt/twigma

FROM python:3.11.14-slim-bookworm
RUN useradd --uid 10001 --create-home twigma && install -d -o twigma /var/lib/twigma
# Dependencies are a layer of their own: a change of the code does not move it.
COPY --from=build /opt/venv /opt/venv
COPY --from=build /opt/twigma /opt/twigma
ENV PATH=/opt/venv/bin:$PATH TWIGMA_HOME=/var/lib/twigma
WORKDIR /opt/twigma
USER twigma
ENTRYPOINT ["twigma", "exec"]
CMD ["dagster", "instance", "info"]
