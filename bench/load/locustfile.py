"""Load on a steno gateway: users who look at their tasks, create new ones from real audio, and fetch transcripts.

A user waits 1 to 5 s between two requests: status three times, history twice, create and download once each. A create uploads
a recording of 30, 120 or 300 s, then makes a task of it. LOAD_FRESH is the share of tasks whose audio is transcribed though the
gateway has a transcript of it already: 0 measures the gateway alone, 1 the whole machine.

Settings come from the environment, so that headless, web and distributed runs have them alike:

    LOAD_AUDIO     folder with 30.mp3, 120.mp3 and 300.mp3 (scripts/loadtest.sh makes them)
    LOAD_ACCOUNTS  NAME:PASSWORD,… that the users share in turn
    LOAD_FRESH     0..1, default 0.1
    LOAD_WARMUP    seconds whose requests are not counted, default 0
    LOAD_STEPS     USERS:SECONDS,… one after the other, in place of --users
"""

import itertools
import os
import random
from pathlib import Path

import gevent
from gevent.lock import Semaphore
from locust import LoadTestShape, between, events, task
from locust.contrib.fasthttp import FastHttpUser
from locust.exception import StopUser
from locust.runners import WorkerRunner

API = "/api/v1"
ACCOUNTS = itertools.cycle(pair.split(":", 1) for pair in os.environ["LOAD_ACCOUNTS"].split(","))
TOKENS = {}  # by account: a token is good for an hour, and who opens another page does not log in again
ONE_LOGIN = Semaphore()
FRESH = float(os.environ.get("LOAD_FRESH", "0.1"))
AUDIO = {
    seconds: (Path(os.environ["LOAD_AUDIO"]) / f"{seconds}.mp3").read_bytes()
    for seconds in (30, 120, 300)
}
KEPT = 20  # tasks that a user remembers


@events.test_start.add_listener
def begin(environment, **_):
    """Forgets the requests of the warm-up: of the log-ins, of the first model load, and of empty caches."""
    seconds = float(os.environ.get("LOAD_WARMUP", "0"))
    if seconds > 0 and not isinstance(environment.runner, WorkerRunner):
        gevent.spawn_later(seconds, environment.stats.reset_all)


class Person(FastHttpUser):
    """Someone with recordings to transcribe."""

    wait_time = between(1, 5)
    network_timeout = connection_timeout = 60

    def on_start(self):
        self.tasks_open = []
        self.tasks_done = []
        name, password = next(ACCOUNTS)
        with ONE_LOGIN:
            if name not in TOKENS:
                with self.rest("POST", f"{API}/auth/token", json={"username": name, "password": password}) as r:
                    TOKENS[name] = (r.js or {}).get("access_token")
        if not TOKENS[name]:
            raise StopUser()
        self.auth = {"Authorization": "Bearer " + TOKENS[name]}
        self.create()

    @task(3)
    def status(self):
        if not self.tasks_open and not self.tasks_done:
            return self.create()
        known = random.choice(self.tasks_open or self.tasks_done)
        with self.ask("GET", f"{API}/transcription/{known}/status", name=f"{API}/transcription/[id]/status") as r:
            if r.js and r.js.get("status") in ("done", "failed", "cancelled"):
                self.ended(known, r.js["status"])

    @task(1)
    def create(self):
        seconds = random.choice(list(AUDIO))
        with self.client.post(
            f"{API}/files?name=talk-{seconds}.mp3", data=AUDIO[seconds], headers=self.auth | {"Content-Type": "application/octet-stream"},
            name=f"{API}/files [{seconds} s]", catch_response=True,
        ) as r:
            file = r.json().get("file_id") if r.status_code in (200, 201) else None
        if not file:
            return
        wish = {"file_id": file, "language": "en", "reuse": random.random() >= FRESH}
        with self.ask("POST", f"{API}/transcription/create", json=wish) as r:
            if r.js and "task_id" in r.js:
                self.tasks_open = (self.tasks_open + [r.js["task_id"]])[-KEPT:]

    @task(2)
    def history(self):
        with self.ask("GET", f"{API}/user/history?limit=20", name=f"{API}/user/history") as r:
            for t in (r.js or {}).get("items", []):
                if t["status"] == "done" and t["task_id"] not in self.tasks_done:
                    self.ended(t["task_id"], "done")

    @task(1)
    def download(self):
        if not self.tasks_done:
            return self.history()
        known, form = random.choice(self.tasks_done), random.choice(["text", "srt", "json"])
        path = f"{API}/transcription/{known}/download?format={form}"
        with self.client.get(path, headers=self.auth, name=f"{API}/transcription/[id]/download", catch_response=True) as r:
            if r.status_code == 200 and not r.content:
                r.failure("an empty transcript")

    def ended(self, known, status):
        if known in self.tasks_open:
            self.tasks_open.remove(known)
        if status == "done":
            self.tasks_done = (self.tasks_done + [known])[-KEPT:]

    def ask(self, method, path, **more):
        return self.rest(method, path, headers=self.auth, **more)


if os.environ.get("LOAD_STEPS"):

    class Steps(LoadTestShape):
        """So many users for so long, one step after the other: where the machine breaks."""

        steps = [tuple(map(int, s.split(":"))) for s in os.environ["LOAD_STEPS"].split(",")]

        def tick(self):
            passed = self.get_run_time()
            for users, seconds in self.steps:
                if passed < seconds:
                    return users, 25
                passed -= seconds
            return None
