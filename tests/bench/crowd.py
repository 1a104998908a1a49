"""Many leases: all at once, and by ten callers one after the other, beside bare commands that come as far. Both sides are taken in turn
and who begins changes, as each leaves Slurm and the machine a little busier for the next."""

import concurrent.futures
import json
import os
import re
import secrets
import sys
import time

CALLERS = 10
# A round ends with releases, the next one with bare cancellations.
FEWEST_ROUNDS = 2
HERE = os.path.dirname(os.path.abspath(__file__))
# Those of src/ssh/lease.rs and src/host/remote/command_line.rs. The key exchange is left to ssh, where ours takes a cheap one.
SSH_OPTIONS = [
    "-oIgnoreUnknown=*", "-oRemoteCommand=none", "-oForkAfterAuthentication=no", "-oStdinNull=no", "-oClearAllForwardings=yes",
    "-oTunnel=no", "-oPermitLocalCommand=no", "-oForwardAgent=no", "-oForwardX11=no", "-oPubkeyAuthentication=yes",
    "-oPubkeyAcceptedKeyTypes=+ssh-ed25519", "-oHostKeyAlgorithms=+ssh-ed25519", "-oIdentitiesOnly=yes", "-oAddKeysToAgent=no",
    "-oPreferredAuthentications=publickey", "-oGlobalKnownHostsFile=/dev/null", "-oKnownHostsCommand=none", "-oRevokedHostKeys=none",
    "-oVerifyHostKeyDNS=no", "-oUpdateHostKeys=no", "-oSessionType=default", "-oBatchMode=yes", "-oServerAliveInterval=15",
    "-oServerAliveCountMax=2", "-oControlMaster=no", "-oControlPath=none", "-oLogLevel=ERROR", "-oConnectTimeout=10",
    "-oStrictHostKeyChecking=yes", "-T"]
# What our own runner's job is asked for with, of what Slurm takes time for.
SBATCH_OPTIONS = ["--time=20", "--cpus-per-task=1", "--dependency=singleton", "--signal=B:USR1@300"]


def by_callers(count, work):
    """Each of ten callers does its share, one after the other: seconds in all, and the results."""
    def caller(first):
        return [work(number) for number in range(first, count, CALLERS)]

    began = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(CALLERS) as pool:
        parts = list(pool.map(caller, range(min(CALLERS, count))))
    return time.monotonic() - began, [result for part in parts for result in part]


class Crowd:
    def __init__(self, bench):
        self.bench = bench
        self.ready = None

    # ------------------------------------------------------------ both sides

    def acquire(self, lease):
        bench = self.bench
        ran = bench.run(bench.ours(), bench.request("acquire", desired=bench.identity(lease)))
        answer = json.loads(ran.out or "{}")
        if not answer.get("lease"):
            print(f"acquire failed: {answer.get('error')}", file=sys.stderr)
        return answer.get("lease"), ran.wall

    def ours(self, count):
        """Leases by ten callers."""
        leases = [new_id() for _ in range(count)]
        self.bench.leases.update(("state", lease) for lease in leases)
        took, results = by_callers(count, lambda number: self.acquire(leases[number]))
        self.bench.add(f"acquire {count} by callers", took)
        for _, each in results:
            self.bench.add(f"each of {count} acquires by callers", each)
        got = [lease for lease, _ in results if lease]
        self.count(f"failures of {count} by callers", count - len(got))
        self.ready = got[0]["ssh"]["readyCheck"] if got else self.ready
        return leases, got

    def bare(self, count):
        """As many bare jobs with an sshd and their first logins, with the ready check of ours."""
        bench = self.bench
        if not self.ready:
            return
        place = f"{bench.home}/bare-{secrets.token_hex(4)}"
        os.mkdir(place, 0o700)

        def one(number):
            return bench.run(["bash", f"{HERE}/bare-lease.sh", f"{place}/b{number}", f"{HERE}/bare-job.sh", self.ready, *SSH_OPTIONS,
                              "--", *SBATCH_OPTIONS, *bench.options()])

        took, results = by_callers(count, one)
        jobs = [ran.out.strip() for ran in results if ran.code == 0 and ran.out.strip().isdigit()]
        bench.jobs.update(jobs)
        self.count(f"bare failures of {count} by callers", count - len(jobs))
        # One that failed has taken no time.
        if len(jobs) == count:
            bench.add(f"bare lease {count} by callers", took)
            for ran in results:
                bench.add(f"each of {count} bare leases by callers", ran.wall)
        if jobs:
            bench.run(["scancel", *jobs])
        self.until_ended(jobs)

    def count(self, name, number):
        self.bench.facts[name] = self.bench.facts.get(name, 0) + number

    def until_ended(self, jobs):
        """Seconds until squeue shows none of them alive."""
        began, ids = time.monotonic(), ",".join(jobs)
        while jobs and time.monotonic() - began < 120:
            states = self.bench.run(["squeue", "--noheader", "--states=all", "--format=%T", f"--jobs={ids}"]).out
            if not re.search("PENDING|RUNNING|COMPLETING|CONFIGURING", states):
                break
            time.sleep(0.1)
        return time.monotonic() - began

    def questions(self):
        """Questions for a user's jobs that slurmctld has answered, anybody's."""
        match = re.search(r"REQUEST_JOB_USER_INFO\s+\(\s*\d+\)\s+count:(\d+)", self.bench.run(["sdiag"]).out)
        return int(match.group(1)) if match else 0

    # ------------------------------------------------------------ the ends

    def release(self, leases):
        """Releases all at once."""
        bench, count = self.bench, len(leases)
        before = self.questions()
        took, results = bench.at_once([(bench.ours(), bench.request("release", id=lease, lease=bench.identity(lease)))
                                       for lease in leases])
        self.count(f"questions of {count} releases", self.questions() - before)
        bench.add(f"release {count} at once", took)
        for _, each, _ in results:
            bench.add(f"each of {count} releases", each)
        late = sum("error" in json.loads(out or '{"error": 1}') for _, _, out in results)
        self.count(f"releases that fail of {count}", late)
        self.count(f"releases of {count}", count)
        self.finish(leases)

    def cancel(self, leases, got):
        """Ends as many jobs of our runner with bare commands, one scancel each; what is left of the leases is removed after it."""
        bench, jobs = self.bench, [lease["cloudId"].split("/")[-1].split(";")[0] for lease in got]
        began = time.monotonic()
        bench.at_once([(["scancel", job], "") for job in jobs])
        self.until_ended(jobs)
        bench.add(f"bare scancel {len(leases)} leases at once to ended", time.monotonic() - began)
        self.finish(leases)

    def finish(self, leases):
        """What is left of leases goes, and none is there when the next begin."""
        bench = self.bench
        until = time.monotonic() + 120
        for lease in leases:
            while "error" in json.loads(bench.call("release", id=lease, lease=bench.identity(lease)).out or "{}") and time.monotonic() < until:
                time.sleep(1)
        bench.leases -= {("state", lease) for lease in leases}

    # ------------------------------------------------------------ the section

    def all_at_once(self, count):
        bench = self.bench
        script = "#!/bin/bash\nexit 0\n"
        bare, results = bench.at_once([(["sbatch", "--parsable", "--output=/dev/null", "--chdir=/", "--time=1", *bench.options()],
                                        script)] * count)
        bench.add(f"sbatch {count} at once", bare)
        jobs = [out.strip() for _, _, out in results if out.strip().isdigit()]
        bench.jobs.update(jobs)
        began = time.monotonic()
        jobs += [bench.sbatch("exit 0", *bench.options()).job for _ in range(count)]
        bench.add(f"sbatch {count} one after the other", time.monotonic() - began)
        self.until_ended(jobs)
        leases = [new_id() for _ in range(count)]
        bench.leases.update(("state", lease) for lease in leases)
        took, results = bench.at_once([(bench.ours(), bench.request("acquire", desired=bench.identity(lease))) for lease in leases])
        answers = [json.loads(out or "{}") for _, _, out in results]
        good = [answer["lease"] for answer in answers if answer.get("lease")]
        for answer in answers:
            if answer.get("error"):
                print(f"acquire failed: {answer['error']}", file=sys.stderr)
        bench.add(f"acquire {count} at once", took)
        for _, each, _ in results:
            bench.add(f"each of {count} acquires", each)
        names = bench.run(["squeue", "--noheader", "--format=%j", "--me", "--states=all"]).out.split()
        facts = bench.facts
        facts[f"failures of {count}"] = count - len(good)
        facts[f"places of {count}"] = len({(lease["ssh"]["host"], lease["ssh"]["port"]) for lease in good})
        facts[f"jobs of {count}"] = len({lease["cloudId"] for lease in good})
        facts[f"duplicates of {count}"] = sum(names.count(f"cbx-{lease[4:]}") > 1 for lease in leases)
        logins = [bench.run(bench.ssh_to(lease["ssh"], "true")).code for lease in good[:10]]
        facts[f"logins that fail of {count}"] = sum(code != 0 for code in logins)
        # What a login costs when as many are at it as cores, so that the cores' limit can be told.
        if good:
            busy, _ = bench.at_once([(bench.ssh_to(lease["ssh"], lease["ssh"]["readyCheck"]), "") for lease in good])
            bench.add(f"login {count} at once", busy)
        self.release(leases)

    def by_ten(self, count):
        """Rounds by ten callers. The leases of every other round are released, those of the others cancelled with bare commands."""
        for number in range(max(FEWEST_ROUNDS, self.bench.runs // 5)):
            self.bench.watch.rest(2)
            if number % 2:
                self.bare(count)
                self.bench.watch.rest(2)
            leases, got = self.ours(count)
            time.sleep(2)
            if number % 2:
                self.cancel(leases, got)
            else:
                self.release(leases)
                self.bench.watch.rest(2)
                self.bare(count)


def new_id():
    return f"cbx_{secrets.token_hex(6)}"


def crowd(bench):
    counts = [count for count in (1, 10, 100) if count <= bench.p["crowd"]]
    section = Crowd(bench)
    for count in counts:
        section.all_at_once(count)
    section.by_ten(counts[-1])
