"""Measures one section where Slurm's commands run (or, for `ssh`, from where a login host is reached) and prints JSON.

Each section measures slurm-sandbox and a bare command in turn, in the same minutes, so that their ratio says something
whatever the machine. It starts processes and jobs of its own and ends them, and keeps to one directory.
Python's standard library only: it runs on login hosts.
"""

import concurrent.futures
import fcntl
import json
import os
import random
import re
import secrets
import shlex
import shutil
import signal
import subprocess
import sys
import time

import crowd
import noise
import spares
import verbs

FORMAT = "\x1f".join(["@%A", "%T", "%r", "%B", "%V", "%S", "%e", "%P", "%Z", "%U", "%j", "%k", "%A$"])
# What one question of slurm-sandbox is, without slurm-sandbox.
SQUEUE = ["squeue", "--noheader", "--states=all", f"--format={FORMAT}", f"--user={os.getuid()}"]
ENVIRONMENT = {**os.environ, "SLURM_TIME_FORMAT": "%s", "LC_ALL": "C"}


def pids_of(jobs):
    return [str(job) for job in jobs]


class Run:
    """What a process that has ended cost."""

    def __init__(self, wall, cpu, code, out):
        self.wall, self.cpu, self.code, self.out = wall, cpu, code, out


def run(command, data="", env=None):
    began = time.monotonic()
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                               env=env or ENVIRONMENT)
    process.stdin.write(data.encode())
    process.stdin.close()
    out = process.stdout.read()
    _, status, used = os.wait4(process.pid, 0)
    wall = time.monotonic() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    process.stdout.close()
    return Run(wall, used.ru_utime + used.ru_stime, process.returncode, out.decode(errors="replace"))


def peak_memory(command, data):
    """Bytes of memory at the most. ru_maxrss would count the memory of this interpreter, from before exec; so the
    process is held at its answer, by a pipe that is full, and asked for its own peak."""
    reader, writer = os.pipe()
    fcntl.fcntl(writer, 1031, 4096)  # F_SETPIPE_SZ
    os.set_blocking(writer, False)
    try:
        while True:
            os.write(writer, b" ")
    except BlockingIOError:
        os.set_blocking(writer, True)
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=writer, stderr=subprocess.DEVNULL, env=ENVIRONMENT)
    os.close(writer)
    process.stdin.write(data.encode())
    process.stdin.close()
    peak, until = None, time.monotonic() + 20
    while peak is None and time.monotonic() < until and process.poll() is None:
        time.sleep(0.005)
        try:
            with open(f"/proc/{process.pid}/syscall", encoding="ascii") as file:
                words = file.read().split()
            if words[:2] == ["1", "0x1"]:  # write to standard output
                with open(f"/proc/{process.pid}/status", encoding="ascii") as file:
                    peak = int(re.search(r"VmHWM:\s+(\d+) kB", file.read()).group(1)) * 1024
        except (OSError, AttributeError):
            pass
    while os.read(reader, 65536):
        pass
    os.close(reader)
    process.wait()
    return peak


def new_id():
    return f"cbx_{secrets.token_hex(6)}"


class Bench:
    run = staticmethod(run)

    def __init__(self, parameters):
        self.p = parameters
        self.runs = parameters["runs"]
        self.binary = parameters["binary"]
        self.samples, self.facts = {}, {}
        self.home = os.path.join(os.path.expanduser("~"), f"slurm-sandbox-bench.{os.getpid()}")
        os.mkdir(self.home, 0o700)
        self.jobs, self.leases = set(), set()
        # What ends a lease of another adapter or of a client, until it has been ended.
        self.closers = {}
        self.watch = None

    def add(self, name, value):
        if value is not None:
            self.samples.setdefault(name, []).append(value)

    # ------------------------------------------------------------ slurm-sandbox

    def config(self, **more):
        return {"runnerWorkRoot": f"{self.home}/work", "timeLimit": "20", "cpus": 1, **self.p.get("config", {}), **more}

    def ours(self, state="state"):
        return [self.binary, "--state-dir", f"{self.home}/{state}"]

    def request(self, operation, config=None, **fields):
        config = self.config() if config is None else config
        return json.dumps({"protocolVersion": 1, "operation": operation, "config": config, **fields})

    def call(self, operation, state="state", command=None, config=None, **fields):
        return run(command or self.ours(state), self.request(operation, config, **fields))

    def acquire(self, state="state", command=None, config=None, keep=False, lease=None):
        """A lease's answer (None on failure) and what the call cost."""
        lease = lease or new_id()
        if command is None:
            self.leases.add((state, lease))
        began = time.time()
        result = self.call("acquire", state, command, config, desired=self.identity(lease), keep=keep)
        result.began = began
        try:
            answer = json.loads(result.out)
        except ValueError:
            answer = {"error": result.out[:300]}
        if not answer.get("lease"):
            print(f"acquire failed: {answer.get('error')}", file=sys.stderr)
        return answer.get("lease"), result

    @staticmethod
    def identity(lease):
        return {"leaseId": lease, "slug": f"b-{lease[4:]}", "name": f"bench-{lease[4:]}"}

    def release(self, lease, state="state", command=None, config=None):
        identity = self.identity(lease)
        result = self.call("release", state, command, config, id=lease, lease=identity)
        try:
            answer = json.loads(result.out)
        except ValueError:
            answer = {"error": result.out[:300]}
        result.answer = answer
        if answer.get("error"):
            print(f"release failed: {answer['error']}", file=sys.stderr)
        else:
            self.leases.discard((state, lease))
        return result

    def attempt(self, lease, state="state"):
        place = f"{self.home}/{state}/shared/{lease}"
        for name in os.listdir(place):
            if os.path.isdir(f"{place}/{name}"):
                return f"{place}/{name}"
        return None

    def timed_runner(self):
        """Our runner, which also writes down when its first line ran."""
        path = f"{self.home}/runner.sh"
        with open(self.p["runner"], encoding="utf-8") as file:
            first, rest = file.read().split("\n", 1)
        with open(path, "w", encoding="utf-8") as file:
            file.write(f'{first}\necho "$EPOCHREALTIME" >"$CBX_STATE_DIR/bench-began"\n{rest}')
        return path

    # ------------------------------------------------------------ bare Slurm

    def sbatch(self, script, *options):
        out = run(["sbatch", "--parsable", "--output=/dev/null", "--chdir=/", "--time=20", *options], f"#!/bin/bash\n{script}\n")
        job = out.out.strip().split(";")[0]
        if out.code == 0 and job.isdigit():
            self.jobs.add(job)
            out.job = job
            return out
        raise SystemExit("sbatch refused a bare job; see --config for partition and account")

    @staticmethod
    def state_of(job):
        return run(["squeue", "--noheader", "--states=all", "--format=%T", f"--jobs={job}"]).out.strip()

    def wait_for(self, job, *states, patience=60):
        until = time.monotonic() + patience
        while time.monotonic() < until:
            if self.state_of(job) in states:
                return True
            time.sleep(0.02)
        return False

    def options(self):
        """The resources of the benchmark's own configuration, for bare jobs."""
        names = {"partition": "partition", "account": "account", "qos": "qos", "reservation": "reservation"}
        return [f"--{flag}={self.p['config'][key]}" for key, flag in names.items() if self.p.get("config", {}).get(key)]

    @staticmethod
    def rpcs():
        """Requests of this user that slurmctld has served, sdiag's own left out of the difference of two."""
        text = run(["sdiag"]).out
        part = text.split("Remote Procedure Call statistics by user")[-1]
        match = re.search(rf"\(\s*{os.getuid()}\)\s+count:(\d+)", part)
        return int(match.group(1)) if match else 0

    # ------------------------------------------------------------ the end

    def end(self):
        for close in list(self.closers.values()):
            close()
        for state, lease in list(self.leases):
            self.release(lease, state)
        if self.jobs:
            jobs = sorted(self.jobs)
            for start in range(0, len(jobs), 500):
                run(["scancel", "--quiet", *jobs[start:start + 500]])
        shutil.rmtree(self.home, ignore_errors=True)

    # ------------------------------------------------------------ sections

    def plant(self, state, count, known):
        """Grows a state dir to `count` leases that were left waiting on purpose: records copied from a real one, each with a held
        job. The acquire of one that is not kept would have to live, or the next list but one ends it."""
        place = f"{self.home}/{state}/leases"
        if not known:
            lease, _ = self.acquire(state)
            with open(f"{place}/{lease['leaseId']}/record.json", encoding="utf-8") as file:
                known["record"] = json.load(file)
            with open(f"{self.home}/{state}/instance", encoding="utf-8") as file:
                known["instance"] = file.read().strip()
            known["leases"] = []
            known["pattern"] = shutil.copytree(f"{place}/{lease['leaseId']}", f"{self.home}/pattern")
            self.release(lease["leaseId"], state)
        pattern = {key: value for key, value in known["record"].items() if key not in ("cloudId", "endpoint")}

        def one(_):
            lease, nonce = new_id(), secrets.token_hex(8)
            job = self.sbatch("exit 0", "--hold", f"--job-name=cbx-{lease[4:]}",
                              f"--comment=cbx:{lease}:{nonce}:{known['instance']}", *self.options()).job
            now = int(time.time())
            record = {**pattern, "identity": self.identity(lease), "phase": "queued", "keep": True, "created": now, "submitted": now,
                      "attempt": {"nonce": nonce, "sent": now}, "job": {"id": int(job)},
                      "key": f"{place}/{lease}/id_ed25519"}
            shutil.copytree(known["pattern"], f"{place}/{lease}")
            for name, value in (("record.json", record), ("identity.json", record["identity"])):
                with open(f"{place}/{lease}/{name}", "w", encoding="utf-8") as file:
                    json.dump(value, file, indent=2)
            return lease

        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            known["leases"] += pool.map(one, range(count - len(known["leases"])))

    def startup(self):
        known = {}
        self.plant("one", 1, known)
        cases = {
            "nothing: bare true": (["/bin/true"], ""),
            "list, no lease": (self.ours("empty"), self.request("list")),
            "resolve, no such lease": (self.ours("empty"), self.request("resolve", id="nonesuch")),
            "bare squeue, one job": (SQUEUE, ""),
            "list, one lease": (self.ours("one"), self.request("list")),
        }
        if self.p.get("against"):
            against = shlex.split(self.p["against"])
            cases["against: list"] = (against, self.request("list"))
            cases["against: resolve"] = (against, self.request("resolve", id="nonesuch"))
        for command, data in cases.values():
            run(command, data)
        for _ in range(self.runs * 5):
            for name, (command, data) in cases.items():
                result = run(command, data)
                self.add(f"{name}: cpu", result.cpu)
                self.add(f"{name}: wall", result.wall)
        for _ in range(5):
            for name, (command, data) in cases.items():
                if data:
                    self.add(f"{name}: memory", peak_memory(command, data))

    def list(self):
        known = {}
        counts = [count for count in (1, 10, 100, 1000, 5000) if count <= self.p["most"]]
        self.facts["counts"] = counts
        for count in counts:
            self.plant("many", count, known)
            cases = {
                "squeue": SQUEUE,
                "list": [*self.ours("many"), "--json", "list"],
                "cleanup": [*self.ours("many"), "cleanup"],
            }
            # The first list writes down what it learns of each new lease. What was written in the last two seconds is read again by
            # the second one, and kept.
            for _ in range(2):
                run(cases["list"])
                self.watch.rest(2.5)
            run(cases["list"])
            for _ in range(self.runs if count < 1000 else max(5, self.runs // 2)):
                for name, command in cases.items():
                    result = run(command)
                    self.add(f"{name} {count}: wall", result.wall)
                    self.add(f"{name} {count}: cpu", result.cpu)
            listed = json.loads(run(cases["list"]).out)
            self.facts[f"listed {count}"] = len(listed)
            self.facts[f"provisioning {count}"] = sum(row["labels"].get("state") == "provisioning" for row in listed)
        self.leases = {lease for lease in self.leases if lease[0] != "many"}

    def ssh_to(self, ssh, *words):
        command = ["ssh", "-i", ssh["key"], "-p", ssh["port"], "-oBatchMode=yes", "-oIdentitiesOnly=yes", "-oLogLevel=ERROR",
                   "-oControlMaster=no", "-oControlPath=none", "-oGlobalKnownHostsFile=/dev/null",
                   "-oStrictHostKeyChecking=yes",
                   f"-oUserKnownHostsFile={os.path.dirname(ssh['key'])}/known_hosts"]
        if ssh.get("proxyCommand"):
            command.append(f"-oProxyCommand={ssh['proxyCommand']}")
        return [*command, f"{ssh['user']}@{ssh['host']}", *words]

    def calm(self):
        """Slurm looks at its queue in a rhythm of seconds, and less soon after a job has just ended: each call comes alone,
        at any moment of it. Nothing of this runs meanwhile."""
        self.watch.rest(1.2 + random.random())

    def control(self):
        """The same bare command every time: how far its times lie apart tells how even the machine is."""
        self.add("control", run(SQUEUE).wall)

    def bare_start(self):
        mark = f"{self.home}/bare-{secrets.token_hex(4)}"
        self.calm()
        began = time.time()
        sent = self.sbatch(f'echo "$EPOCHREALTIME" >{mark}.new; mv {mark}.new {mark}', *self.options())
        until = time.monotonic() + 120
        while not os.path.exists(mark) and time.monotonic() < until:
            time.sleep(0.01)
        with open(mark, encoding="ascii") as file:
            self.add("bare sbatch to first line", float(file.read()) - began)
        self.add("bare sbatch", sent.wall)
        self.wait_for(sent.job, "COMPLETED")

    def acquire_section(self):
        runner = self.timed_runner()
        kept = []
        for _ in range(self.runs):
            self.bare_start()
            self.calm()
            lease, result = self.acquire(config=self.config(runnerScript=runner))
            answered = result.began + result.wall
            if not lease:
                self.add("failed", 1)
                continue
            attempt = self.attempt(lease["leaseId"])
            with open(f"{attempt}/bench-began", encoding="ascii") as file:
                began = float(file.read())
            listens = os.stat(f"{attempt}/endpoint.json").st_mtime
            self.add("call to answer", result.wall)
            self.add("cpu", result.cpu)
            self.add("call to first line", began - result.began)
            self.add("first line to sshd published", listens - began)
            self.add("first line to answer", answered - began)
            self.add("sshd published to answer", answered - listens)
            login = run(self.ssh_to(lease["ssh"], lease["ssh"]["readyCheck"]))
            self.add("first probe of the client succeeds", int(login.code == 0))
            self.add("bare login", login.wall)
            self.add("bare login", run(self.ssh_to(lease["ssh"], lease["ssh"]["readyCheck"])).wall)
            kept.append(lease["leaseId"])
        for lease in kept:
            result = self.release(lease)
            self.add("release, one after the other", result.wall)
        for _ in range(max(3, self.runs // 2)):
            job = self.sbatch("exec sleep 600", *self.options()).job
            self.wait_for(job, "RUNNING")
            time.sleep(0.5)
            began = time.monotonic()
            run(["scancel", job])
            self.add("bare scancel", time.monotonic() - began)
            self.wait_for(job, "CANCELLED")
            self.add("bare scancel to ended", time.monotonic() - began)

    def wait_in_queue(self):
        """Many acquires at once that wait; only called where a filler holds the nodes."""
        count, minutes = self.p["count"], self.p["minutes"]
        command = shlex.split(self.p["against"]) if self.p.get("theirs") else None
        base = self.rpcs()
        self.facts["rpcs of one sdiag"] = self.rpcs() - base
        before = self.rpcs()
        run(SQUEUE)
        self.facts["rpcs of one squeue"] = self.rpcs() - before - self.facts["rpcs of one sdiag"]
        before = self.rpcs()
        held = self.sbatch("exit 0", "--hold", *self.options()).job
        self.facts["rpcs of one sbatch"] = self.rpcs() - before - self.facts["rpcs of one sdiag"]
        run(["scancel", held])
        config = self.config(**self.p.get("waiting", {}))
        waiting, leases = [], []
        before = self.rpcs()
        began = time.monotonic()
        for _ in range(count):
            lease = new_id()
            process = subprocess.Popen(command or self.ours(), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                       stderr=subprocess.DEVNULL, start_new_session=True)
            process.stdin.write(self.request("acquire", config, desired=self.identity(lease)).encode())
            process.stdin.close()
            waiting.append(process)
            leases.append(lease)
            if command is None:
                self.leases.add(("state", lease))
        sent = count * self.facts["rpcs of one sbatch"]
        sdiag = self.facts["rpcs of one sdiag"]
        points = [0.5, 1, 1.5, 2, 3, 4, 5] + [float(minute) for minute in range(6, 61)]
        self.facts["points"], self.facts["questions"] = [], []
        for number, minute in enumerate(point for point in points if point <= minutes):
            time.sleep(max(0.0, began + minute * 60 - time.monotonic()))
            asked = self.rpcs() - before - sent - sdiag * (number + 1)
            self.facts["points"].append(minute)
            self.facts["questions"].append(asked / max(1, self.facts["rpcs of one squeue"]))
        self.facts["still waiting"] = sum(process.poll() is None for process in waiting)
        for process in waiting:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        if self.p.get("release", True):
            before, began = self.rpcs(), time.monotonic()
            for lease in leases:
                result = self.release(lease, command=command)
                self.add("release of one that waits", result.wall)
            self.facts["release of all that wait, one after the other"] = time.monotonic() - began
            self.facts["rpcs of a release of one that waits"] = (self.rpcs() - before - sdiag) / max(1, count)

    def at_once(self, commands):
        """Starts all, waits for all: seconds from the first start to each end, with its output."""
        began = time.monotonic()
        started = []
        for command, data in commands:
            process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                                       env=ENVIRONMENT)
            process.stdin.write(data.encode())
            process.stdin.close()
            started.append((process, time.monotonic() - began))

        def one(pair):
            process, start = pair
            out = process.stdout.read()
            process.wait()
            return time.monotonic() - began, time.monotonic() - began - start, out.decode(errors="replace")

        with concurrent.futures.ThreadPoolExecutor(len(started)) as pool:
            results = list(pool.map(one, started))
        return max(end for end, _, _ in results), results

    def stubborn(self):
        """A job that ignores TERM and its permit, and publishes nothing."""
        path = f"{self.home}/stubborn.sh"
        with open(path, "w", encoding="utf-8") as file:
            file.write("#!/bin/bash\ntrap '' TERM\nwhile :; do sleep 1; done\n")
        config = self.config(runnerScript=path, acquireTimeoutSeconds=4)
        lease = new_id()
        self.leases.add(("state", lease))
        self.acquire(config=config, keep=True, lease=lease)
        began = time.monotonic()
        result = self.release(lease)
        self.add("release of a job that ignores TERM", result.wall)
        self.facts["message"] = result.answer.get("message") or result.answer.get("error")
        until = time.monotonic() + 120
        while time.monotonic() < until and json.loads(self.call("list").out).get("leases"):
            time.sleep(1)
        self.add("until it is no more listed", time.monotonic() - began)

    # ------------------------------------------------------------ over SSH

    def over_ssh(self):
        login, far = self.p["login"], self.p.get("far_binary") or self.binary
        socket, log = f"{self.home}/master", f"{self.home}/master.log"
        master = ["ssh", "-oBatchMode=yes", "-oLogLevel=ERROR", "-S", socket]
        run(["ssh", "-vfMN", "-E", log, "-oBatchMode=yes", f"-oControlPath={socket}", "-oControlPersist=1h", login])
        through = [*master, "-oControlMaster=no", login]
        own = self.config(submitHost=login, controlPath=socket)
        default = self.config(submitHost=login)
        for config in (own, default):
            config["runnerWorkRoot"] = "~/slurm-sandbox-bench-work"

        def connections():
            text = run([*through, "cat /proc/net/snmp"]).out
            names, values = [line.split() for line in text.splitlines() if line.startswith("Tcp:")]
            return int(values[names.index("PassiveOpens")])

        def sessions():
            with open(log, encoding="utf-8", errors="replace") as file:
                return sum("mux_master_process_new_session" in line or "mux_master_process_stdio_fwd" in line
                           or "new session" in line and "client-session" in line for line in file)

        # Handshakes, with the connection that the program makes itself.
        lease = new_id()
        self.leases.add(("far", lease))
        operations = [("acquire", {"desired": self.identity(lease)}), ("list", {}), ("resolve", {"id": lease}), ("cleanup", {}),
                      ("touch", {"id": lease, "lease": self.identity(lease)}), ("list", {}),
                      ("release", {"id": lease, "lease": self.identity(lease)})]
        for name, fields in operations:
            before = connections()
            result = self.call(name, "far", config=default, **fields)
            if "error" in json.loads(result.out or '{"error":1}'):
                print(f"{name} over ssh failed: {result.out[:300]}", file=sys.stderr)
            time.sleep(0.1)
            self.facts.setdefault("handshakes", []).append([name, connections() - before])
        self.leases.discard(("far", lease))
        with open(log, encoding="utf-8", errors="replace") as file:
            self.facts["log words"] = sorted({line.split(":")[1].strip()[:40] for line in file if line.startswith("debug1: ")})[:40]

        # Sessions, with a master that tells.
        lease = new_id()
        self.leases.add(("near", lease))
        for name, fields in [(name, {key: (lease if key == "id" else self.identity(lease)) for key in fields})
                             for name, fields in operations]:
            before = sessions()
            self.call(name, "near", config=own, **fields)
            time.sleep(0.1)
            self.facts.setdefault("sessions", []).append([name, sessions() - before])
        self.leases.discard(("near", lease))

        # A list against a bare squeue through the same master.
        held, _ = self.acquire("near", config=own)
        far_uid = run([*through, "id -u"]).out.strip()
        squeue = shlex.join([*SQUEUE[:-1], f"--user={far_uid}"])
        for _ in range(self.runs * 2):
            self.add("bare true through the master", run([*through, "true"]).wall)
            self.add("bare squeue through the master", run([*through, squeue]).wall)
            self.add("bare squeue in a login shell through the master",
                     run([*through, f"exec bash -lc {shlex.quote(squeue)}"]).wall)
            self.add("list", self.call("list", "near", config=own).wall)

        # Acquire here and there in turn.
        for _ in range(self.runs):
            self.calm()
            lease, result = self.acquire("near", config=own)
            if lease:
                self.add("acquire from here", result.wall)
                self.add("login from here", run(self.ssh_to(lease["ssh"], "true")).wall)
                self.release(lease["leaseId"], "near", config=own)
            identity = new_id()
            config = {**self.config(), "runnerWorkRoot": "~/slurm-sandbox-bench-work"}
            script = ("s=~/slurm-sandbox-bench-state; call() {{ a=$EPOCHREALTIME; {binary} --state-dir $s >/dev/null; b=$EPOCHREALTIME; "
                      "echo $((${{b/./}} - ${{a/./}})); }}; call <<<{acquire}; call <<<{release}; rm -rf $s ~/slurm-sandbox-bench-work")
            words = {"binary": shlex.quote(far),
                     "acquire": shlex.quote(self.request("acquire", config, desired=self.identity(identity))),
                     "release": shlex.quote(self.request("release", config, id=identity, lease=self.identity(identity)))}
            self.calm()
            out = run([*through, f"bash -c {shlex.quote(script.format(**words))}"]).out.split()
            self.add("acquire on the login host", int(out[0]) / 1e6)
            self.add("release on the login host", int(out[1]) / 1e6)

        # The ways in: the lease's own, and bare commands that do the same.
        place = f"{held['ssh']['host']}:{held['ssh']['port']}"
        bare = {**held["ssh"], "proxyCommand": f"ssh -oBatchMode=yes -S {socket} -W {place} {login}"}
        stdio, _ = self.acquire("near", config={**own, "sshMode": "stdio"})
        job = stdio["cloudId"].split("/")[-1]
        srun = f"srun --jobid={job} --overlap --quiet --unbuffered --mem=0 --cpu-bind=none --ntasks=1 --nodes=1 --chdir=/"
        self.direct_logins(through, far)
        for _ in range(self.runs):
            self.add("login: connect", run(self.ssh_to(held["ssh"], "true")).wall)
            self.add("login: bare ssh -W", run(self.ssh_to(bare, "true")).wall)
            self.add("login: stdio", run(self.ssh_to(stdio["ssh"], "true")).wall)
            self.add("login: bare srun", run([*through, f"{srun} true"]).wall)
        size = self.p["megabytes"]
        ways = {"connect": self.ssh_to(held["ssh"]), "bare ssh -W": self.ssh_to(bare), "stdio": self.ssh_to(stdio["ssh"])}
        for _ in range(max(3, self.runs // 2)):
            for name, command in ways.items():
                self.transfer(name, command, size)
            self.transfer("bare ssh", through, size)
            self.transfer("bare srun", [*through, srun], size)
        for lease in (held, stdio):
            self.release(lease["leaseId"], "near", config=own)
        run([*master, "-O", "exit", login])
        run(["sh", "-c", f"for s in /tmp/slurm-sandbox-{os.getuid()}/*; do [ -S \"$s\" ] && ssh -S \"$s\" -O exit {login}; done"])

    def direct_logins(self, through, far):
        """Logins on the login host to a lease of its own, timed there."""
        lease = new_id()
        config = {**self.config(), "runnerWorkRoot": "~/slurm-sandbox-bench-work"}
        state = "~/slurm-sandbox-bench-state"
        call = f"{shlex.quote(far)} --state-dir {state}"
        out = run([*through, f"{call} <<<{shlex.quote(self.request('acquire', config, desired=self.identity(lease)))}"]).out
        ssh = json.loads(out)["lease"]["ssh"]
        command = shlex.join(self.ssh_to(ssh, "true"))
        script = f"for i in {{1..{self.runs}}}; do a=$EPOCHREALTIME; {command}; b=$EPOCHREALTIME; echo $((${{b/./}} - ${{a/./}})); done"
        for line in run([*through, f"bash -c {shlex.quote(script)}"]).out.split():
            self.add("login: direct, on the login host", int(line) / 1e6)
        run([*through, f"{call} <<<{shlex.quote(self.request('release', config, id=lease, lease=self.identity(lease)))}; rm -rf {state}"])

    def transfer(self, name, command, size):
        began = time.monotonic()
        with open("/dev/null", "wb") as null:
            process = subprocess.run([*command, f"head -c {size}M /dev/zero"], stdin=subprocess.DEVNULL, stdout=null,
                                     stderr=subprocess.DEVNULL, check=False)
        if process.returncode == 0:
            self.add(f"down: {name}", size / (time.monotonic() - began))
        began = time.monotonic()
        with subprocess.Popen(["head", "-c", f"{size}M", "/dev/zero"], stdout=subprocess.PIPE) as source:
            process = subprocess.run([*command, "cat >/dev/null"], stdin=source.stdout, stdout=subprocess.DEVNULL,
                                     stderr=subprocess.DEVNULL, check=False)
        if process.returncode == 0:
            self.add(f"up: {name}", size / (time.monotonic() - began))


def main():
    section, parameters = sys.argv[1], json.loads(sys.argv[2])
    bench = Bench(parameters)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    began = time.monotonic()
    try:
        bench.watch = noise.Watch()
        {"startup": bench.startup, "list": bench.list, "acquire": bench.acquire_section, "controller": bench.wait_in_queue,
         "crowd": lambda: crowd.crowd(bench), "stubborn": bench.stubborn, "ssh": bench.over_ssh,
         "pool": lambda: spares.pool(bench), "day": lambda: spares.day(bench),
         "client": lambda: verbs.client(bench), "adapter": lambda: verbs.adapter(bench)}[section]()
        bench.facts["noise"] = bench.watch.facts()
    finally:
        bench.end()
    bench.facts["seconds"] = time.monotonic() - began
    json.dump({"samples": bench.samples, "facts": bench.facts}, sys.stdout)


if __name__ == "__main__":
    main()
