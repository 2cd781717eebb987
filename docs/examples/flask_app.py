"""
A Flask app that reports every request, made by an application factory.

    export BEACON_INGEST_URL=http://127.0.0.1:8787 BEACON_INGEST_KEY=dev   # `beaconhq local`
    flask --app flask_app run        # or: gunicorn "flask_app:create_app()"
"""

from flask import Blueprint, Flask, abort, request

from beaconhq import BeaconClient, BeaconFlask, set_consumer

beacon = BeaconClient.from_env()
extension = BeaconFlask(beacon)
users = Blueprint("users", __name__)


@users.before_request
def authenticate():
    # From your own table of keys: the key's id is reported, not the key.
    key_ids = {"secret-of-acme": "acme"}
    set_consumer(key_ids.get(request.headers.get("X-API-Key")))


@users.get("/<int:user_id>")
def read_user(user_id):
    if user_id > 1000:
        abort(404)
    return {"id": user_id}


@users.get("/export")
def export_users():
    return (f"{user_id}\n" for user_id in range(3)), {"content-type": "text/csv"}


def create_app():
    app = Flask(__name__)
    extension.init_app(app)
    app.register_blueprint(users, url_prefix="/users")

    @app.get("/healthz")
    def read_health():
        return {"beacon": beacon.stats()}

    return app
