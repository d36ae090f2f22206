"""Django under its servers, watched from a real agent; `manage.py migrate` registers nothing."""

from __future__ import annotations

import shutil
import signal
import sys
from pathlib import Path

import pytest

from tests.support.serving import Server, in_catalog_alone, leaves_in_order, told
from tests.support.waiting import eventually

SETTINGS = """
import os
from consul_access import HttpCheck

SECRET_KEY = "only for tests"
ALLOWED_HOSTS = ["orders.example"]
SECURE_SSL_REDIRECT = True
ROOT_URLCONF = "shop.urls"
MIDDLEWARE = ["django.middleware.security.SecurityMiddleware", "django.middleware.common.CommonMiddleware"]
INSTALLED_APPS = ["django.contrib.contenttypes"]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": os.environ["DATABASE"]}}
CONSUL_ACCESS = {
    "name": "orders",
    "address": "127.0.0.1",
    "port": int(os.environ["PORT"]),
    "id": "orders-1",
    "drain": float(os.environ["DRAIN"]),
    "check": HttpCheck(interval="1s"),
    "health": {"database": "consul_access.integrations.django.database", "always": lambda: True},
}
"""
URLS = """
from django.http import HttpResponse
from django.urls import path
from consul_access.integrations.django import health

urlpatterns = [path("", lambda request: HttpResponse("42")), path("ready", health)]
"""
ASGI = """
import os
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")
from consul_access.integrations.django import get_asgi_application
application = get_asgi_application()
"""
WSGI = ASGI.replace("asgi", "wsgi")
GUNICORN = """
import os
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")
from consul_access.integrations.django import when_ready
"""
MANAGE = """
import os, sys
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")
from django.core.management import execute_from_command_line
execute_from_command_line(sys.argv)
"""
VIEW = """
import os, sys
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")
import django
django.setup()
from django.test import RequestFactory
from consul_access.integrations.django import health
for method in ("GET", "HEAD", "POST"):
    answer = health(RequestFactory().generic(method, "/ready"))
    print(answer.status_code, answer.content.decode())
"""
PLAIN = SETTINGS.replace('"orders.example"', '"127.0.0.1"').replace("SECURE_SSL_REDIRECT = True", "")
"""Where callers by plain http and by address are welcome; agents are so in any case."""


def django(folder, address, port, command, settings=PLAIN, **environ):
    (folder / "shop").mkdir()
    files = {
        "shop/__init__.py": "",
        "shop/settings.py": settings,
        "shop/urls.py": URLS,
        "shop/asgi.py": ASGI,
        "shop/wsgi.py": WSGI,
        "gunicorn.conf.py": GUNICORN,
        "manage.py": MANAGE,
        "view.py": VIEW,
    }
    return Server(folder, command, files, address, port, DATABASE=str(folder / "database"), **environ)


def uvicorn(port):
    return ["-m", "uvicorn", "shop.asgi:application", "--port", str(port)]


def gunicorn(port):
    script = shutil.which("gunicorn", path=Path(sys.executable).parent)
    return [script, "--bind", f"127.0.0.1:{port}", "--workers", "2", "shop.wsgi"]


def test_under_uvicorn_it_leaves_the_registry_first(tmp_path, consul, counting, free_port):
    server = django(tmp_path, counting.address, free_port, uvicorn(free_port))
    assert leaves_in_order(server, consul, counting) == -15


def test_under_gunicorn_it_leaves_the_registry_first(tmp_path, consul, counting, free_port):
    server = django(tmp_path, counting.address, free_port, gunicorn(free_port))
    assert leaves_in_order(server, consul, counting) == 0


@pytest.mark.parametrize(("command", "code"), [(uvicorn, -15), (gunicorn, 0)], ids=["uvicorn", "gunicorn"])
def test_in_catalog_mode_the_service_states_its_status_itself(tmp_path, consul, free_port, command, code):
    settings = PLAIN.replace('"check": HttpCheck(interval="1s")', '"mode": "catalog", "node": "no-agent"')
    with django(tmp_path, consul.address, free_port, command(free_port), settings=settings) as server:
        server.passes(consul)
        assert in_catalog_alone(consul) == ["no-agent"]
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(60) == code, server.log
    assert in_catalog_alone(consul) == []


@pytest.mark.parametrize("command", [uvicorn, gunicorn], ids=lambda command: command.__name__)
def test_hosts_that_are_not_allowed_and_https_alone_do_not_stand_in_the_agents_way(
    tmp_path, consul, free_port, command
):
    with django(tmp_path, consul.address, free_port, command(free_port), settings=SETTINGS) as server:
        assert server.passes(consul) == ["orders-1"]
        status, report = told(free_port)
    assert (status, set(report["checks"])) == (200, {"database", "always"})


def test_a_database_that_does_not_answer_is_told(tmp_path, consul, free_port):
    settings = PLAIN.replace('os.environ["DATABASE"]', '"/absent/database"')
    with django(tmp_path, consul.address, free_port, uvicorn(free_port), settings=settings) as server:
        eventually(lambda: "Uvicorn running" in server.log, within=30)
        status, report = told(free_port)
    assert status == 503
    assert "unable to open database file" in report["checks"]["database"]["output"]
    assert report["checks"]["always"]["status"] == "passing"


def test_migrate_registers_nothing(tmp_path, consul, counting, free_port):
    with django(tmp_path, counting.address, free_port, ["manage.py", "migrate"]) as server:
        assert server.process.wait(60) == 0, server.log
        assert "OK" in server.log
    assert consul.read("/v1/agent/services") == {}
    assert counting.seen == []


def test_the_view_answers_as_the_path_does(tmp_path, consul, free_port):
    with django(tmp_path, consul.address, free_port, ["view.py"]) as server:
        assert server.process.wait(60) == 0, server.log
        get, head, post = server.log.splitlines()
    assert get.startswith('200 {"status": "passing", "checks": {"database": {"status": "passing"')
    assert head.startswith("200")
    assert post.strip() == "405"


def test_settings_without_ours_say_what_to_write(tmp_path, consul, free_port):
    settings = PLAIN.replace("CONSUL_ACCESS", "OTHER")
    with django(tmp_path, consul.address, free_port, uvicorn(free_port), settings=settings) as server:
        assert server.process.wait(60) != 0
        assert "the settings have no CONSUL_ACCESS: write CONSUL_ACCESS = {" in server.log
