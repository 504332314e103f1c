# One image for web, worker, scheduler and migrate; compose.yaml shows how each is started.
# BASE is any image with Python 3.11 or later as `python`. GIT_COMMIT is the whole name of the commit, for Admin > Health. pip's own variables (PIP_INDEX_URL …) may be given as build
# arguments: they are known while packages are installed, and are no part of the image.
ARG BASE=python:3.12-slim

FROM ${BASE} AS build
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
ARG PIP_FIND_LINKS
ARG PIP_CERT
COPY requirements-build.lock requirements.lock ./
# --no-build-isolation: what builds a package comes by hash as well. --no-deps: the lock is complete.
RUN python -m venv /venv \
    && /venv/bin/pip install --no-cache-dir --require-hashes -r requirements-build.lock \
    && /venv/bin/pip install --no-cache-dir --require-hashes --no-deps --no-build-isolation -r requirements.lock \
    && /venv/bin/pip uninstall --quiet --yes pip setuptools
COPY asapp /app/asapp
COPY migrations /app/migrations
COPY config.py gunicorn.conf.py worker.py wsgi.py /app/
RUN python -m compileall -q --invalidation-mode unchecked-hash /app

FROM ${BASE}
RUN groupadd --gid 10001 asapp \
    && useradd --uid 10001 --gid asapp --no-create-home --home-dir /app --shell /usr/sbin/nologin asapp \
    && install -d -o asapp -g asapp /data
ENV PATH=/venv/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
WORKDIR /app
COPY --from=build /venv /venv
COPY --from=build /app /app
COPY static static
COPY templates templates
ARG GIT_COMMIT=
RUN echo "$GIT_COMMIT" > commit
LABEL org.opencontainers.image.revision=$GIT_COMMIT
USER asapp
EXPOSE 8000
CMD ["gunicorn", "wsgi:app", "--bind", "0.0.0.0:8000", "--no-control-socket"]
