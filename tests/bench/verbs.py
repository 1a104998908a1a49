"""Two adapters side by side: the client's verbs through each, and each alone. Every row is taken in turn, so that what the
machine does meanwhile meets both, and who begins changes with each round: Slurm is not the same to the first and to the
second of two calls. Two equal builds, always in the same order, differed by half in their releases."""

import json
import os
import secrets
import shlex
import shutil
import subprocess
import sys
import time

VERBS = ["warmup", "run", "status", "list", "stop"]
OPERATIONS = ["acquire", "resolve", "list", "release"]
# The client's own longest wait is twenty minutes; what takes longer than this is a failure here.
PATIENCE_SECONDS = 180


class Side:
    """An adapter under the name that its samples have."""

    def __init__(self, name, command):
        self.name, self.command = name, command


def command_of(option, text):
    command = shlex.split(text)
    if not command or not shutil.which(command[0]):
        raise SystemExit(f"--{option}: there is no program {command[0] if command else text!r} on {os.uname().nodename}")
    return command


def sides(bench, place):
    ours = Side("ours", [bench.binary, "--state-dir", f"{bench.home}/{place}"])
    theirs = bench.p.get("against")
    return [ours, *([Side("theirs", command_of("against", theirs))] if theirs else [])]


def rounds(bench, pair):
    """The sides in the order of each round: A B, B A, A B."""
    for number in range(bench.runs):
        yield pair if number % 2 == 0 else pair[::-1]


def in_turn(bench, pair, names, act, new):
    """Rounds of calls through each side: the first name makes a lease of its own, the last one ends it, also when the benchmark
    breaks off between. `act(side, name, lease)` tells whether a call was good, `new()` names a lease."""
    for turn in rounds(bench, pair):
        leases = {side.name: new() for side in turn}
        for side in turn:
            end = (side, names[-1], leases[side.name])
            bench.closers[end] = lambda end=end: act(*end)
            bench.calm()
            act(side, names[0], leases[side.name])
        for name in names[1:-1]:
            for side in turn:
                act(side, name, leases[side.name])
        bench.control()
        for side in turn:
            end = (side, names[-1], leases[side.name])
            if act(*end):
                del bench.closers[end]


def lose(bench, side, what, said):
    """A call that failed has no time."""
    key = f"failed: {side.name}: {what}"
    bench.facts[key] = bench.facts.get(key, 0) + 1
    print(f"{side.name}: {what} failed: {' '.join(said.split())[-300:]}", file=sys.stderr)


# ------------------------------------------------------------ through the client


def configuration(side, config, work_root):
    """What the client reads: JSON, which is YAML as well."""
    return {"provider": "external", "target": "linux", "external": {
        "command": side.command[0], "args": side.command[1:], "capabilities": {"idempotentLeaseId": True},
        "connection": {"ssh": {"trustProviderOutput": True}}, "config": config, "workRoot": work_root}}


def environment(bench, side):
    """The client's configuration of one side, and nothing of the user's own."""
    place = f"{bench.home}/{side.name}-client"
    os.makedirs(f"{place}/crabbox")
    path = f"{place}/crabbox/config.yaml"
    with open(path, "w", encoding="utf-8") as file:
        json.dump(configuration(side, bench.config(), f"{bench.home}/work"), file)
    return {**os.environ, "CRABBOX_CONFIG": path, "XDG_CONFIG_HOME": place, "XDG_STATE_HOME": f"{place}/state"}


def words_of(verb, slug):
    return {"warmup": ["warmup", "--slug", slug], "run": ["run", "--id", slug, "--", "true"], "status": ["status", "--id", slug],
            "list": ["list"], "stop": ["stop", slug]}[verb]


def checkout(bench):
    """The client runs in a checkout: one file is all there is to synchronise."""
    place = f"{bench.home}/checkout"
    os.mkdir(place)
    with open(f"{place}/README", "w", encoding="ascii") as file:
        file.write("benchmark\n")
    git = ["git", "-C", place, "-c", "user.name=bench", "-c", "user.email=bench@localhost"]
    for words in (["init", "-q"], ["add", "README"], ["commit", "-q", "-m", "one file"]):
        subprocess.run([*git, *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
    return place


def client(bench):
    command = command_of("client", bench.p["client"])
    pair = sides(bench, "client")
    environments = {side.name: environment(bench, side) for side in pair}
    place = checkout(bench)

    def verb(side, name, slug):
        began = time.monotonic()
        try:
            ran = subprocess.run([*command, *words_of(name, slug)], cwd=place, env=environments[side.name], stdin=subprocess.DEVNULL,
                                 stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=PATIENCE_SECONDS, check=False)
            took, said, good = time.monotonic() - began, ran.stdout.decode(errors="replace"), ran.returncode == 0
        except subprocess.TimeoutExpired:
            took, said, good = None, f"nothing within {PATIENCE_SECONDS} s", False
        if good:
            bench.add(f"{side.name}: {name}", took)
        else:
            lose(bench, side, name, said)
        return good

    in_turn(bench, pair, VERBS, verb, lambda: f"b-{secrets.token_hex(4)}")


# ------------------------------------------------------------ alone


def adapter(bench):
    pair = sides(bench, "adapter")

    def operation(side, name, lease):
        identity = bench.identity(lease)
        fields = {"acquire": {"desired": identity, "keep": True}, "list": {},
                  "resolve": {"id": identity["name"], "desired": identity},
                  "release": {"lease": identity, "force": True}}[name]
        ran = bench.call(name, command=side.command, **fields)
        try:
            good = "error" not in json.loads(ran.out) and ran.code == 0
        except ValueError:
            good = False
        if good:
            bench.add(f"{side.name}: {name}", ran.wall)
            bench.add(f"{side.name}: {name}: cpu", ran.cpu)
        else:
            lose(bench, side, name, ran.out)
        return good

    in_turn(bench, pair, OPERATIONS, operation, lambda: f"cbx_{secrets.token_hex(6)}")
