"""Leases that take spares: one after the other, by ten callers, with full nodes, and very many in a row, each beside bare logins to
sshds of the same runner, with our ssh options and the same ready check. And what all that leaves behind: files, processes, jobs, and
requests to the controller that grow with nothing."""

import json
import os
import sys
import time

import crowd

STATE = "pool"
# So many are kept ready, and taken in one round: two by each of ten callers.
SPARES = 20
# A half of the rounds is compared with the other one.
FEWEST_ROUNDS = 2
# Spares begin one after the other on busy cores; one call of `pool fill` waits a minute.
FILL_SECONDS = 180
# What a job leaves in squeue for a moment: COMPLETING until its processes are gone.
SETTLE_SECONDS = 60
# Each node is looked at by a job step of its own.
MOST_NODES = 8
# Names of what is there more than before, for whoever looks for the reason.
MOST_NAMES = 5
# Without a process of its own, and not counted itself. Other work of the same user is there before and after.
LOOK = r"""for place in /proc/[0-9]*; do
  [[ -O $place && ${place##*/} != "$$" ]] && read -r name <"$place/comm" && echo "process $name"
done
find /tmp -mindepth 1 -user "$UID" -printf 'file %p\n'"""


def job_of(lease):
    return lease["cloudId"].split("/")[-1].split(";")[0]


def known_jobs(pools):
    """The jobs of all spares, by the answer of `pool`."""
    return {str(spare["jobId"]) for pool in pools for spare in pool["spares"] if spare.get("jobId")}


def twice(jobs):
    """How many leases have a job that another one has as well."""
    return len(jobs) - len(set(jobs))


def pooled_jobs(listing, instance):
    """The jobs of this state dir's spares and of the leases that took one, from lines of id and comment."""
    lines = (line.split(None, 1) for line in listing.splitlines())
    return {line[0] for line in lines if len(line) == 2 and line[1].startswith("pool:") and instance in line[1].split()[0].split(":")}


def unmatched(jobs, leases, spares):
    """Jobs that are neither a lease's nor a spare's, and leases whose job is not there."""
    return len(jobs - leases - spares) + len(leases - jobs)


def more_than(before, after):
    """Names that are there more often than before."""
    left = list(after)
    for name in before:
        if name in left:
            left.remove(name)
    return left


def looked_at(text):
    """Processes and files, from what LOOK prints."""
    lines = [line.partition(" ") for line in text.splitlines()]
    return {kind: [name for word, _, name in lines if word == kind] for kind in ("process", "file")}


def files_below(place, without=()):
    found = []
    for at, directories, names in os.walk(place):
        directories[:] = [name for name in directories if os.path.join(at, name) not in without]
        found += [os.path.relpath(os.path.join(at, name), place) for name in [*names, *directories]]
    return found


class Spares:
    def __init__(self, bench):
        self.bench = bench
        self.path = f"{bench.home}/spares.json"
        with open(self.path, "w", encoding="utf-8") as file:
            json.dump(self.config(SPARES), file)
        bench.closers[STATE] = self.drain
        self.jobs, self.counts = [], {}
        self.sdiag = 0

    def config(self, spares):
        return self.bench.config(spares=spares)

    # ------------------------------------------------------------ the pool

    def pool(self, *words):
        return self.bench.run([*self.bench.ours(STATE), "--config", self.path, "--json", "pool", *words])

    def known(self):
        return json.loads(self.pool().out or "[]")

    def fill(self, count):
        """Waits until so many are ready and nothing is on its way."""
        until = time.monotonic() + FILL_SECONDS
        while True:
            self.pool("fill", str(count))
            pools = self.known()
            if sum(pool["ready"] for pool in pools) >= count and not any(pool["pending"] + pool["ending"] for pool in pools):
                return
            if time.monotonic() > until:
                raise SystemExit(f"the pool does not fill: {json.dumps(pools)[:600]}")

    def drain(self):
        until = time.monotonic() + FILL_SECONDS
        while self.pool("drain").code != 0 and time.monotonic() < until:
            time.sleep(1)

    # ------------------------------------------------------------ both sides

    def claim(self, spares=SPARES):
        """A lease, or none, with what the call cost and whether it took a spare."""
        lease, ran = self.bench.acquire(STATE, config=self.config(spares))
        return lease, ran, bool(lease) and os.path.isdir(f"{self.bench.home}/{STATE}/pooled/{lease['leaseId']}/seat")

    def login(self, lease):
        """What a client would do first, with the options of our own login."""
        ssh = lease["ssh"]
        return self.bench.run(["ssh", "-i", ssh["key"], "-p", ssh["port"], *crowd.SSH_OPTIONS,
                               f"-oUserKnownHostsFile={os.path.dirname(ssh['key'])}/known_hosts", f"{ssh['user']}@{ssh['host']}",
                               ssh["readyCheck"]])

    def release(self, lease):
        """Until it is settled; what is on its way out is released again."""
        until = time.monotonic() + SETTLE_SECONDS
        while "error" in self.bench.release(lease["leaseId"], STATE, config=self.config(SPARES)).answer and time.monotonic() < until:
            time.sleep(1)

    def count(self, name, number):
        self.counts[name] = self.counts.get(name, 0) + int(number)

    def counted(self, claims):
        """Takes claims into the count: those that gave no lease or took no spare. The leases."""
        leases = [lease for lease, _, _ in claims if lease]
        self.count("claims", len(claims))
        self.count("failed", len(claims) - len(leases))
        self.count("no spare", sum(not seated for lease, _, seated in claims if lease))
        self.jobs += [job_of(lease) for lease in leases]
        return leases

    def lost(self, leases):
        """What `unmatched` counts, now. Nothing of ours runs meanwhile."""
        with open(f"{self.bench.home}/{STATE}/instance", encoding="utf-8") as file:
            instance = file.read().strip()
        # What was just released may be on its way out.
        listing = self.bench.run(["squeue", "--noheader", "--me", "--states=PENDING,CONFIGURING,RUNNING,SUSPENDED", "--format=%A %k"]).out
        return unmatched(pooled_jobs(listing, instance), {job_of(lease) for lease in leases}, known_jobs(self.known()))

    def requests(self, work):
        """What the work gave, and the requests to slurmctld meanwhile."""
        before = self.bench.rpcs()
        result = work()
        return result, self.bench.rpcs() - before - self.sdiag

    # ------------------------------------------------------------ what is left

    def nodes(self):
        listing = self.bench.run(["sinfo", "--noheader", "--Node", "--format=%N %P %t"]).out
        partition = self.bench.config().get("partition")
        rows = [line.split() for line in listing.splitlines()]
        up = {node for node, name, state in rows
              if (name == partition if partition else name.endswith("*")) and state in ("idle", "mix", "alloc")}
        return sorted(up)[:MOST_NODES]

    def live(self):
        return self.bench.run(["squeue", "--noheader", "--me", "--format=%A %T"]).out.splitlines()

    def footprint(self, nodes):
        """All that is there of this user, once nothing is on its way out."""
        bench, until = self.bench, time.monotonic() + SETTLE_SECONDS
        self.drain()
        while any("COMPLETING" in line for line in self.live()) and time.monotonic() < until:
            time.sleep(0.5)
        state, shared = f"{bench.home}/{STATE}", f"{bench.home}/{STATE}/shared"
        found = {"jobs": self.live(), "files in the state dir": files_below(state, [shared]),
                 "files in the shared dir": files_below(shared), "files in the work root": files_below(f"{bench.home}/work")}
        here = looked_at(bench.run(["bash", "-c", LOOK]).out)
        found["processes here"], found["files in /tmp here"] = here["process"], here["file"]
        for node in nodes:
            there = bench.run(["srun", "--quiet", "--nodes=1", "--ntasks=1", "--time=1", "--immediate=30", "--chdir=/",
                               f"--nodelist={node}", *bench.options(), "bash", "-c", LOOK])
            if there.code == 0:
                seen = looked_at(there.out)
                found.setdefault("processes on nodes", []).extend(f"{node} {name}" for name in seen["process"])
                found.setdefault("files in /tmp on nodes", []).extend(f"{node} {name}" for name in seen["file"])
        return found

    def left(self, before, after):
        """Numbers before and after, and the names of what has come."""
        names = [name for name in before if name in after]
        self.bench.facts["left"] = [[name, len(before[name]), len(after[name])] for name in names]
        grown = {name: more_than(before[name], after[name])[:MOST_NAMES] for name in names}
        self.bench.facts["come"] = {name: what for name, what in grown.items() if what}
        for name, what in self.bench.facts["come"].items():
            print(f"{name}: more than before: {', '.join(what)}", file=sys.stderr)

    # ------------------------------------------------------------ the section

    def prepare(self):
        """A round that counts nothing, so that what the first calls leave is there already, as the files that logins take turns by."""
        before = self.bench.rpcs()
        self.sdiag = self.bench.rpcs() - before
        self.fill(SPARES)
        leases = [lease for lease, _, _ in crowd.by_callers(SPARES, lambda _: self.claim())[1] if lease]
        if not leases:
            raise SystemExit("not even one lease comes")
        for lease in leases:
            self.login(lease)
        crowd.by_callers(len(leases), lambda number: self.release(leases[number]))
        self.drain()

    def timed_login(self, lease, name):
        """A login that failed has taken no time."""
        ran = self.login(lease)
        if ran.code == 0:
            self.bench.add(name, ran.wall)
        else:
            self.count("bare logins failed", 1)

    def one_after_the_other(self):
        """An acquire that finds no spare, then one that does, beside a bare login to the first one's job; who begins changes."""
        bench = self.bench
        for number in range(bench.runs):
            self.drain()
            bench.calm()
            plain, ran, seated = self.claim(1)
            if not plain:
                bench.add("alone: failed", 1)
                continue
            if not seated:
                bench.add("ordinary acquire", ran.wall)
            self.fill(1)
            claimed = []

            def claim():
                lease, ran, seated = self.claim(1)
                bench.add("alone: took a spare", int(seated))
                if lease:
                    claimed.append(lease)
                    bench.add("first probe of the client succeeds", int(self.login(lease).code == 0))
                if seated:
                    bench.add("claim", ran.wall)
                    bench.add("cpu", ran.cpu)

            turn = [claim, lambda plain=plain: self.timed_login(plain, "bare login")]
            for act in turn if number % 2 else turn[::-1]:
                bench.calm()
                act()
            for lease in [plain, *claimed]:
                self.release(lease)

    def by_ten(self):
        """Rounds of claims by ten callers, each with a full pool, and as many bare logins by ten callers to the same jobs."""
        bench, rounds = self.bench, max(FEWEST_ROUNDS, self.bench.runs)
        nodes = self.nodes()
        before = self.footprint(nodes)
        requests = bench.facts.setdefault("requests", {"claim": [], "release": []})
        for _ in range(rounds):
            self.fill(SPARES)
            bench.watch.rest(2)
            (_, claims), asked = self.requests(lambda: crowd.by_callers(SPARES, lambda _: self.claim()))
            requests["claim"].append(asked / SPARES)
            leases = self.counted(claims)
            for lease, ran, _ in claims:
                if lease:
                    bench.add("claim by callers", ran.wall)
            _, codes = crowd.by_callers(len(leases), lambda number, leases=leases: self.login(leases[number]).code)
            self.count("first logins failed", sum(code != 0 for code in codes))
            self.count("lost", self.lost(leases))
            # The spares that come in place of those taken have begun before the bare logins do.
            self.fill(SPARES)
            bench.watch.rest(2)
            crowd.by_callers(len(leases), lambda number, leases=leases: self.timed_login(leases[number], "bare login by callers"))
            _, asked = self.requests(lambda leases=leases: crowd.by_callers(len(leases), lambda number: self.release(leases[number])))
            requests["release"].append(asked / max(1, len(leases)))
        self.finish(before, nodes)

    def finish(self, before, nodes):
        """Counts what the claims have come to, and what is left of them."""
        self.count("twice", twice(self.jobs))
        self.bench.facts["counts"] = self.counts
        self.left(before, self.footprint(nodes))

    def with_full_nodes(self):
        """The same as one after the other when no job can start: each node's idle CPUs are taken by one job."""
        bench = self.bench
        count = min(bench.runs, SPARES - 1)
        self.fill(count + 1)
        held, _, _ = self.claim(count + 1)
        if not held:
            return
        self.fill(count + 1)
        listing = bench.run(["sinfo", "--noheader", "--Node", "--format=%N %C"]).out
        idle = dict(line.split() for line in listing.splitlines())
        fillers = [bench.sbatch("exec sleep 1200", f"--nodelist={node}", f"--cpus-per-task={cpus.split('/')[1]}", *bench.options()).job
                   for node, cpus in idle.items() if node in self.nodes() and cpus.split("/")[1] != "0"]
        full = all([bench.wait_for(job, "RUNNING") for job in fillers])
        leases = [held]
        bench.facts["nodes are full"] = full
        bench.watch.rest(2)
        for _ in range(count if full else 0):
            self.timed_login(held, "bare login, full nodes")
            lease, ran, seated = self.claim(count + 1)
            bench.add("full nodes: took a spare", int(seated))
            if lease:
                leases.append(lease)
            if seated:
                bench.add("claim, full nodes", ran.wall)
        bench.run(["scancel", *fillers])
        for lease in leases:
            self.release(lease)
        self.drain()

    def in_a_row(self, count):
        """Claims and releases one after the other, as fast as they go."""
        bench, nodes = self.bench, self.nodes()
        before = self.footprint(nodes)
        self.fill(SPARES)
        requests = bench.facts.setdefault("requests", {"claim and release": []})

        def one():
            claim = self.claim()
            for lease in self.counted([claim]):
                bench.add("claim in a row", claim[1].wall)
                self.count("first logins failed", self.login(lease).code != 0)
                self.release(lease)

        for first in range(0, count, SPARES):
            some = min(SPARES, count - first)
            _, asked = self.requests(lambda some=some: [one() for _ in range(some)])
            requests["claim and release"].append(asked / some)
        self.count("lost", self.lost([]))
        self.finish(before, nodes)


def pool(bench):
    section = Spares(bench)
    section.prepare()
    section.one_after_the_other()
    section.by_ten()
    if bench.p.get("full"):
        section.with_full_nodes()


def day(bench):
    section = Spares(bench)
    section.prepare()
    section.in_a_row(bench.p["claims"])
