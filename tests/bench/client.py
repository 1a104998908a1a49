#!/usr/bin/env python3
"""Stands in for the client where that is not at hand: its verbs warmup, run --id, status, list and stop, with the calls to
the adapter, the logins and the waits that docs/facts/client.md says the client makes for them.

It reads the client's configuration from the file in CRABBOX_CONFIG (JSON, which is YAML as well) and keeps what it knows of
a lease beside it. It synchronises no files: what that costs depends on the way to the node, not on the adapter. So its times
are those of calls and logins, and not what a user of the client waits for in all.
"""

import argparse
import hashlib
import json
import os
import secrets
import shlex
import socket
import subprocess
import sys
import tempfile
import time

# "One run calls ssh about 28 times, through one master".
SESSIONS_OF_A_RUN = 28
# "The wait looks every 10 s".
WAIT_INTERVAL_SECONDS = 10
# The client waits twenty minutes; a benchmark has failed long before.
WAIT_SECONDS = 60
# The defaults of the client, which reach an adapter as labels of touch and release.
TTL_SECONDS, IDLE_SECONDS = 90 * 60, 30 * 60


class Failed(Exception):
    def __init__(self, code, text):
        super().__init__(text)
        self.code = code


def name_of(lease, slug):
    """The name of a lease: 32 bits of FNV-1a of its id, after its slug."""
    value = 0x811C9DC5
    for byte in lease.encode():
        value = (value ^ byte) * 0x01000193 & 0xFFFFFFFF
    return f"crabbox-{slug}-{value:08x}"


def request(operation, config, **fields):
    """What is empty or false is left out."""
    body = {"protocolVersion": 1, "operation": operation, "config": config, **fields}
    return json.dumps({name: value for name, value in body.items() if value}, separators=(",", ":")) + "\n"


def answer_of(code, out, err):
    """The adapter's answer, by the client's rules; Failed with the client's exit status."""
    if code != 0:
        raise Failed(code if 0 < code < 256 else 255, err.strip() or out.strip())
    try:
        answer = json.loads(out)
    except ValueError as error:
        raise Failed(5, f"the answer is no JSON: {error}") from error
    if str(answer.get("error") or "").strip():
        raise Failed(5, answer["error"])
    if answer.get("protocolVersion") != 1:
        raise Failed(5, "the answer has another protocol version")
    return answer


def ssh_command(ssh, connect_seconds=10, attempts=3):
    """The client's ssh command line up to the remote command."""
    key = ssh.get("key") or ""
    known = f"{os.path.dirname(key)}/known_hosts" if key else os.path.expanduser("~/.ssh/known_hosts")
    scope = hashlib.sha256(json.dumps([ssh.get("user"), key, ssh.get("proxyCommand")]).encode()).hexdigest()[:8]
    words = ["ssh", *(["-i", key, "-oIdentitiesOnly=yes"] if key else []),
             "-oForwardAgent=no", "-oForwardX11=no", "-oForwardX11Trusted=no", "-oBatchMode=yes",
             f"-oConnectTimeout={connect_seconds}", f"-oConnectionAttempts={attempts}",
             "-oServerAliveInterval=15", "-oServerAliveCountMax=2", "-p", ssh.get("port") or "22",
             "-oStrictHostKeyChecking=accept-new", f"-oUserKnownHostsFile={known}",
             "-oControlMaster=auto", "-oControlPersist=10m",
             f"-oControlPath={tempfile.gettempdir()}/bench-ssh-{scope}-%C"]
    if ssh.get("proxyCommand"):
        words.append(f"-oProxyCommand={ssh['proxyCommand']}")
    return [*words, "-n", f"{ssh['user']}@{ssh['host']}"]


def succeeds(command, patience=60):
    try:
        # A master that stays must not hold our caller's pipes.
        return subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                              timeout=patience, check=False).returncode
    except subprocess.TimeoutExpired:
        return None


class Client:
    def __init__(self, path):
        with open(path, encoding="utf-8") as file:
            self.external = json.load(file)["external"]
        self.claims_path = f"{path}.claims"
        try:
            with open(self.claims_path, encoding="utf-8") as file:
                self.claims = json.load(file)
        except FileNotFoundError:
            self.claims = {}

    def keep(self):
        with open(f"{self.claims_path}.new", "w", encoding="utf-8") as file:
            json.dump(self.claims, file)
        os.replace(f"{self.claims_path}.new", self.claims_path)

    def call(self, operation, **fields):
        command = [self.external["command"], *self.external.get("args", [])]
        ran = subprocess.run(command, input=request(operation, self.external.get("config"), **fields), capture_output=True,
                             text=True, preexec_fn=os.setpgrp, check=False)
        sys.stderr.write(ran.stderr)
        return answer_of(ran.returncode, ran.stdout, ran.stderr)

    def resolve(self, slug, **fields):
        claim = self.claims.get(slug)
        # A lease that is known here is asked for by its name.
        known = {"desired": claim["identity"], "id": claim["identity"]["name"]} if claim else {"id": slug}
        lease = self.call("resolve", **known, **fields).get("lease")
        if not lease:
            raise Failed(4, f"could not resolve {slug}")
        return lease

    def labelled(self, lease):
        now = int(time.time())
        labels = {"keep": "true", "state": "leased", "created_at": now, "last_touched_at": now, "ttl_secs": TTL_SECONDS,
                  "idle_timeout_secs": IDLE_SECONDS, "idle_timeout": IDLE_SECONDS, "expires_at": now + IDLE_SECONDS}
        labels = {**{name: str(value) for name, value in labels.items()}, **lease.get("labels", {})}
        return {**lease, "labels": labels}

    def touch(self, lease, state):
        try:
            self.call("touch", lease=self.labelled(lease), state=state)
        except Failed as failed:
            print(f"warning: touch: {failed}", file=sys.stderr)

    @staticmethod
    def is_ready(ssh):
        probe = ssh_command(ssh, connect_seconds=5, attempts=1)
        if not ssh.get("proxyCommand"):
            try:
                socket.create_connection((ssh["host"], int(ssh["port"])), timeout=5).close()
            except OSError:
                return False
            if succeeds([*probe, "exit 0"]) != 0:
                return False
        return succeeds([*probe, ssh.get("readyCheck") or "true"]) == 0

    def wait(self, lease):
        ssh = lease.get("ssh") or {}
        if not ssh.get("host") or not ssh.get("user"):
            raise Failed(5, "the answer has no ssh host and user")
        until = time.monotonic() + WAIT_SECONDS
        while not self.is_ready(ssh):
            if time.monotonic() > until:
                raise Failed(5, f"no login to {ssh['host']}:{ssh.get('port')} within {WAIT_SECONDS} s")
            time.sleep(WAIT_INTERVAL_SECONDS)
        return ssh

    # ------------------------------------------------------------ verbs

    def warmup(self, slug):
        lease = f"cbx_{secrets.token_hex(6)}"
        identity = {"leaseId": lease, "slug": slug, "name": name_of(lease, slug)}
        answer = self.call("acquire", desired=identity, keep=True, repo=repo()).get("lease")
        if not answer:
            raise Failed(5, "acquire answered without a lease")
        self.claims[slug] = {"identity": identity, "lease": answer}
        self.keep()
        self.wait(answer)
        print(f"leased {lease} slug={slug} server={answer.get('cloudId')}")

    def run(self, slug, words):
        lease = self.resolve(slug, repo=repo())
        ssh = self.wait(lease)
        self.touch(lease, lease.get("labels", {}).get("state") or "leased")
        self.touch(lease, "running")
        command = ssh_command(ssh)
        for _ in range(SESSIONS_OF_A_RUN - 1):
            if succeeds([*command, "true"]) != 0:
                raise Failed(7, "a login in the middle of a run failed")
        code = succeeds([*command, shlex.join(words)], patience=WAIT_SECONDS)
        self.touch(lease, "ready")
        if code != 0:
            raise Failed(255 if code is None else code, "the command failed")

    def status(self, slug):
        lease = self.resolve(slug)
        ssh = self.wait(lease)
        ready = succeeds([*ssh_command(ssh, 2, 1), ssh.get("readyCheck") or "true"], patience=4) == 0
        print(f"{slug} state={lease.get('labels', {}).get('state') or 'leased'} ready={str(ready).lower()}")

    def list(self):
        leases = self.call("list").get("leases")
        if not isinstance(leases, list):
            raise Failed(5, "list answered without leases")
        for lease in leases:
            print(lease.get("cloudId"), lease.get("name"), lease.get("status"))

    def stop(self, slug):
        lease = self.resolve(slug, releaseOnly=True)
        ssh = lease.get("ssh") or {}
        if ssh.get("host") and ssh.get("user"):
            # With a host in the answer the client tries ssh before it releases.
            succeeds([*ssh_command(ssh), "true"])
        self.call("release", lease=self.labelled(lease), force=True)
        self.claims.pop(slug, None)
        self.keep()


def repo():
    return {"root": os.getcwd(), "name": os.path.basename(os.getcwd()) or "none"}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("warmup").add_argument("--slug", required=True)
    run = verbs.add_parser("run")
    run.add_argument("--id", required=True)
    run.add_argument("words", nargs=argparse.REMAINDER)
    verbs.add_parser("status").add_argument("--id", required=True)
    verbs.add_parser("list")
    verbs.add_parser("stop").add_argument("id")
    asked = parser.parse_args()
    if not os.environ.get("CRABBOX_CONFIG"):
        parser.error("CRABBOX_CONFIG names no configuration")
    client = Client(os.environ["CRABBOX_CONFIG"])
    try:
        if asked.verb == "warmup":
            client.warmup(asked.slug)
        elif asked.verb == "run":
            client.run(asked.id, [word for word in asked.words if word != "--"] or ["true"])
        elif asked.verb == "status":
            client.status(asked.id)
        elif asked.verb == "list":
            client.list()
        else:
            client.stop(asked.id)
    except Failed as failed:
        print(f"{asked.verb}: {failed}", file=sys.stderr)
        sys.exit(failed.code)


if __name__ == "__main__":
    main()
