# One image for web, worker and scheduler; compose.yaml shows how each is started.
FROM python:3.12-slim AS build
COPY requirements.lock .
RUN python -m venv /venv && /venv/bin/pip install --no-cache-dir --require-hashes -r requirements.lock

FROM python:3.12-slim
RUN useradd --system --uid 10001 --user-group --home-dir /app --shell /usr/sbin/nologin asapp \
    && install -d -o asapp -g asapp /app /data
ENV PATH=/venv/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
WORKDIR /app
COPY --from=build /venv /venv
COPY asapp asapp
COPY migrations migrations
COPY static static
COPY templates templates
COPY config.py gunicorn.conf.py worker.py wsgi.py ./
USER asapp
EXPOSE 8000
CMD ["gunicorn", "wsgi:app", "--bind", "0.0.0.0:8000", "--no-control-socket"]
