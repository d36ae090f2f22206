"""Who is the last of several processes to leave?"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from consul_access.sharing import Share

PROGRAM = """
import sys
from pathlib import Path
from consul_access.sharing import Share
share = Share("orders-1", Path(sys.argv[1]))
for line in sys.stdin:
    print(getattr(share, line.strip())(), flush=True)
"""


class Process:
    """Another process, which does with its share as it is told."""

    def __init__(self, folder):
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])},
        )

    def begins(self, what):
        self.process.stdin.write(f"{what}\n")
        self.process.stdin.flush()

    def answers(self):
        return self.process.stdout.readline().strip()

    def does(self, what):
        self.begins(what)
        return self.answers()

    def end(self):
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def process(tmp_path):
    made = []

    def make():
        made.append(Process(tmp_path))
        return made[-1]

    yield make
    for each in made:
        each.end()


def test_the_first_is_alone_and_the_last_one_ends_it(process, tmp_path):
    one, two, three = process(), process(), process()
    assert one.does("join") == "False"
    assert two.does("join") == "True"
    assert three.does("join") == "True"
    assert two.does("leave") == "False"
    assert one.does("leave") == "False"
    assert three.does("leave") == "True"
    assert three.does("leave") == "True"
    assert three.does("close") == "None"
    assert list(tmp_path.iterdir()) == []


def test_of_many_that_leave_at_once_exactly_one_is_the_last(process):
    everybody = [process() for _ in range(6)]
    for each in everybody:
        each.does("join")
    for each in everybody:
        each.begins("leave")
    assert sorted(each.answers() for each in everybody) == ["False"] * 5 + ["True"]


def test_who_has_left_sees_what_the_others_do_and_is_the_last_once_they_have_gone(process):
    one, two = process(), process()
    one.does("join")
    two.does("join")
    assert one.does("leave") == "False"
    assert one.does("rest") == "Rest.KEEPING"
    assert two.does("leave") == "True"
    assert one.does("rest") == "Rest.ENDING"
    two.does("close")
    assert one.does("rest") == "Rest.GONE"
    assert one.does("leave") == "True"
    assert process().does("join") == "False"
    one.does("close")  # which takes nothing from those that have begun anew
    assert process().does("join") == "True"


def test_nobody_joins_while_the_last_one_is_leaving(process):
    one, two = process(), process()
    one.does("join")
    one.does("leave")
    assert two.does("join") == "None"
    one.does("close")
    assert two.does("join") == "False"


def test_a_killed_process_has_no_share_any_more(process):
    one, two = process(), process()
    one.does("join")
    assert two.does("join") == "True"
    one.process.send_signal(signal.SIGKILL)
    one.process.wait()
    assert two.does("leave") == "True"


def test_a_forked_child_has_no_share(process, tmp_path):
    share = Share("orders-1", tmp_path)
    assert share.join() is False
    reading, writing = os.pipe()
    child = os.fork()
    if not child:  # it lives until its parent says otherwise
        os.read(reading, 1)
        os._exit(0)
    try:
        assert process().does("join") == "True"
        other = process()
        share.close()
        assert other.does("join") == "True"
    finally:
        os.write(writing, b".")
        os.waitpid(child, 0)
        os.close(reading)
        os.close(writing)


def test_a_folder_that_cannot_be_written_leaves_everybody_alone_and_says_so(tmp_path, caplog):
    share = Share("orders-1", tmp_path / "absent")
    with caplog.at_level(logging.WARNING, logger="consul_access"):
        assert share.join() is False
    assert "orders-1" in caplog.text
    assert "within 5 s" in caplog.text
    assert share.leave() is True
    share.close()


def test_nobody_elses_link_is_followed(tmp_path):
    share = Share("orders-1", tmp_path)
    share.join()
    (name,) = tmp_path.iterdir()
    share.close()
    name.symlink_to(tmp_path / "precious")
    other = Share("orders-1", tmp_path)
    assert other.join() is False
    assert not (tmp_path / "precious").exists()
    other.close()
