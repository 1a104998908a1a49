"""Turns what was measured into tables and plots: median, quartiles and number of runs, each beside the bare command that
was measured in the same minutes, and beside its target. A figure that misses its target says so and fails nothing. What was
measured on a machine that was too busy with other things is shown and not compared; then the exit status is 3."""

import json
import math
import os
import re
import statistics
import sys

import document
import noise

SECTIONS = ["client", "adapter", "startup", "list", "acquire", "pool", "controller", "crowd", "release", "ssh", "binary"]
TOO_NOISY = 3
# The range of fewer runs is too narrow to say that something lies outside of it.
FEWEST_RUNS = 5
# What a section's tables are made of, where that is more than its own name says.
SOURCES = {"release": ["acquire", "crowd", "controller", "stubborn"], "controller": ["controller", "minutes"], "pool": ["pool", "day"]}
# How much more than one bare login an acquire from a spare may take, in seconds.
MORE_AT_MEDIAN, MORE_AT_P99 = 0.06, 0.15


def quartiles(values):
    if len(values) < 2:
        return values[0], values[0]
    cut = statistics.quantiles(values, n=4, method="inclusive")
    return cut[0], cut[2]


def number(value):
    if value == 0:
        return "0"
    digits = 3
    text = f"{value:.{digits}g}"
    return f"{float(text):.0f}" if abs(value) >= 100 else text


UNITS = {"s": (1, "s"), "ms": (1e3, "ms"), "MiB": (1 / 2**20, "MiB"), "MB/s": (1.048576, "MB/s"), "": (1, "")}


def spread(values, unit):
    factor, name = UNITS[unit]
    values = [value * factor for value in values]
    low, high = quartiles(values)
    median = number(statistics.median(values))
    if len(values) == 1:
        return f"{median} {name} (n 1)".replace("  ", " ")
    return f"{median} {name} ({number(low)}–{number(high)}, n {len(values)})".replace("  ", " ")


def median(values):
    return statistics.median(values) if values else None


def percentile(values, share):
    """The smallest value that so large a share of all does not exceed."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)] if values else None


def halves(values):
    """Means of the first and of the second half; None of too few."""
    middle = len(values) // 2
    return (statistics.mean(values[:middle]), statistics.mean(values[middle:])) if middle else None


def ranged(values, unit, failed=0):
    """Median, fastest and slowest."""
    factor, name = UNITS[unit]
    lost = f", {failed} failed" if failed else ""
    if not values:
        return f"–{lost}"
    low, middle, high = (number(value * factor) for value in (min(values), statistics.median(values), max(values)))
    return f"{middle} {name} ({low}–{high}, n {len(values)}{lost})"


def verdict(ours, theirs, why_not):
    """How the median of the other compares with all of our times; `why_not` says why nothing can be compared."""
    if not ours or not theirs:
        return "–"
    if why_not:
        return "not compared: too noisy"
    if min(len(ours), len(theirs)) < FEWEST_RUNS:
        return "not compared: too few runs"
    other = statistics.median(theirs)
    if other > max(ours):
        return "faster"
    return "**slower**" if other < min(ours) else "no difference"


class Report:
    def __init__(self, results):
        self.results = results
        self.tables, self.verdicts = {}, []
        # Sections with something to compare that was not, because of the noise.
        self.refused = set()

    def samples(self, section, name):
        return self.results.get(section, {}).get("samples", {}).get(name, [])

    def facts(self, section):
        return self.results.get(section, {}).get("facts", {})

    def table(self, section, head, rows):
        rows = [row for row in rows if row]
        if rows:
            self.tables.setdefault(section, []).append((head, rows))

    def versus(self, section, what, ours, bare, unit, target=None):
        """A row: ours, bare, their ratio, and whether a target (text, whether met) is met."""
        own, other = self.samples(section, ours), self.samples(section, bare) if bare else []
        if not own:
            return None
        # Memory is the same on a busy machine.
        if (other or target) and unit != "MiB" and self.noise(section):
            self.refused.add(section)
            return [what, spread(own, unit), spread(other, unit) if other else "–", "too noisy", "not judged" if target else "–"]
        ratio = number(median(own) / median(other)) if other else "–"
        return [what, spread(own, unit), spread(other, unit) if other else "–", ratio, self.judged(section, what, target)]

    def noise(self, section):
        """Why nothing of this section can be compared; results of older versions do not tell."""
        return noise.reasons(self.facts(section).get("noise", {}), self.samples(section, "control"))

    def machine(self, section):
        """What the machine did meanwhile, and whether figures of this section can be compared."""
        facts, control = self.facts(section).get("noise", {}), self.samples(section, "control")
        why = self.noise(section)
        return f"{noise.described(facts, control)}{'; too noisy to compare: ' + '; '.join(why) if why else ''}"

    def judged(self, section, what, target):
        if not target:
            return "–"
        text, met = target
        self.verdicts.append((section, what, text, met))
        return f"{text}: {'met' if met else '**not met**'}"

    # ------------------------------------------------------------ sections

    def beside(self, section, names, where):
        """Rows of two adapters that were measured in turn."""
        rows = []
        for name, unit in names:
            ours, theirs = (self.samples(section, f"{side}: {name}") for side in ("ours", "theirs"))
            lost = [self.facts(section).get(f"failed: {side}: {name}", 0) for side in ("ours", "theirs")]
            if not ours and not theirs and not any(lost):
                continue
            compared = bool(ours and theirs)
            why = self.noise(section) if compared else []
            if why:
                self.refused.add(section)
            ratio = number(median(ours) / median(theirs)) if compared and not why else "–"
            rows.append([name, ranged(ours, unit, lost[0]), ranged(theirs, unit, lost[1]), ratio, verdict(ours, theirs, why)])
        self.table(section, [where, "slurm-sandbox", "the other adapter", "ratio", "slurm-sandbox is"], rows)
        if rows:
            self.table(section, ["meanwhile", ""], [["the machine", self.machine(section)]])

    def client(self):
        through = self.results.get("meta", {}).get("client")
        self.beside("client", [(name, "s") for name in ("warmup", "run", "status", "list", "stop")],
                    f"verb, through {through}" if through else "verb")

    def adapter(self):
        self.beside("adapter", [("acquire", "s"), ("resolve", "ms"), ("list", "ms"), ("release", "ms"),
                                ("resolve: cpu", "ms"), ("list: cpu", "ms")], "operation, adapter alone")

    HEAD = ["what", "slurm-sandbox", "bare", "ratio", "target"]

    def against(self, section, what, name, unit):
        values = self.samples(section, name)
        return [f"{what}, the other adapter", spread(values, unit), "–", "–", "–"] if values else None

    def startup(self):
        def at_most(name, limit, text, unit):
            values = self.samples("startup", name)
            return (text, median(values) * UNITS[unit][0] <= limit) if values else None

        rows = []
        for case in ("list, no lease", "resolve, no such lease"):
            rows.append(self.versus("startup", f"{case}: CPU", f"{case}: cpu", "nothing: bare true: cpu", "ms",
                                    at_most(f"{case}: cpu", 3, "≤ 3 ms", "ms")))
            rows.append(self.versus("startup", f"{case}: wall", f"{case}: wall", "nothing: bare true: wall", "ms"))
            rows.append(self.versus("startup", f"{case}: memory", f"{case}: memory", None, "MiB",
                                    at_most(f"{case}: memory", 8, "≤ 8 MiB", "MiB")))
        own, bare = self.samples("startup", "list, one lease: cpu"), self.samples("startup", "bare squeue, one job: cpu")
        if own and bare:
            extra = (median(own) - median(bare)) * 1e3
            rows.append(self.versus("startup", "list, one lease: CPU, squeue's included", "list, one lease: cpu",
                                    "bare squeue, one job: cpu", "ms",
                                    (f"{number(extra)} ms over squeue, ≤ 5 ms", extra <= 5)))
            rows.append(self.versus("startup", "list, one lease: wall", "list, one lease: wall", "bare squeue, one job: wall", "ms"))
            rows.append(self.versus("startup", "list, one lease: memory", "list, one lease: memory", None, "MiB"))
        for case, unit in (("cpu", "ms"), ("wall", "ms"), ("memory", "MiB")):
            rows.append(self.against("startup", f"list: {case}", f"against: list: {case}", unit))
            rows.append(self.against("startup", f"resolve: {case}", f"against: resolve: {case}", unit))
        self.table("startup", self.HEAD, rows)

    def list(self):
        rows = []
        for count in self.facts("list").get("counts", []):
            bare = median(self.samples("list", f"squeue {count}: wall"))
            limit = 2 * bare + 20e-6 * count
            for name in ("list", "cleanup"):
                own = median(self.samples("list", f"{name} {count}: wall"))
                rows.append(self.versus("list", f"{name} of {count}", f"{name} {count}: wall", f"squeue {count}: wall", "ms",
                                        (f"≤ {number(limit * 1e3)} ms", own <= limit)))
        self.table("list", self.HEAD, rows)

    def acquire(self):
        get = lambda name: self.samples("acquire", name)
        login = median(get("bare login"))
        if login is None:
            return
        answer, listens = median(get("first line to answer")), median(get("sshd published to answer"))
        probes = get("first probe of the client succeeds")
        rows = [
            self.versus("acquire", "call to answer", "call to answer", None, "s"),
            self.versus("acquire", "call to first line of the script", "call to first line", "bare sbatch to first line", "s"),
            self.versus("acquire", "first line to sshd published", "first line to sshd published", None, "s"),
            self.versus("acquire", "first line to answer, beside one login", "first line to answer", "bare login", "s",
                        ("≤ 0.4 s", answer <= 0.4)),
            self.versus("acquire", "sshd published to answer, beside one login", "sshd published to answer", "bare login", "s",
                        (f"≤ 0.15 s + a login = {number(0.15 + login)} s", listens <= 0.15 + login)),
            ["the client's first probe after the answer", f"{sum(probes)} of {len(probes)} succeed", "–", "–",
             self.judged("acquire", "first probe", ("all", sum(probes) == len(probes)))],
            self.versus("acquire", "CPU of a call, ssh, ssh-keygen and Slurm's commands included", "cpu", None, "ms"),
        ]
        self.table("acquire", self.HEAD, rows)

    def login_more(self, what, name, bare):
        """An acquire from a spare beside a bare login."""
        own, other = (median(self.samples("pool", each)) for each in (name, bare))
        target = None
        if own and other:
            limit = other + MORE_AT_MEDIAN
            target = (f"≤ a login + {number(MORE_AT_MEDIAN * 1e3)} ms = {number(limit * 1e3)} ms", own <= limit)
        return self.versus("pool", what, name, bare, "ms", target)

    def pool(self):
        probes, login = self.samples("pool", "first probe of the client succeeds"), "bare login"
        rows = [self.login_more("acquire from a spare, beside one login", "claim", login),
                self.versus("pool", "ordinary acquire, no spare there", "ordinary acquire", login, "ms"),
                self.login_more("acquire from a spare, all nodes full", "claim, full nodes", "bare login, full nodes"),
                self.versus("pool", "CPU of an acquire from a spare, ssh and Slurm's commands included", "cpu", None, "ms")]
        if probes:
            rows.append(["the client's first probe after the answer", f"{sum(probes)} of {len(probes)} succeed", "–", "–",
                         self.judged("pool", "first probe", ("all", all(probes)))])
        for what, name in (("acquires that took the spare which was ready", "alone: took a spare"),
                           ("the same, all nodes full", "full nodes: took a spare")):
            took = self.samples("pool", name)
            if took:
                rows.append([what, f"{sum(took)} of {len(took)}", "–", "–", self.judged("pool", what, ("all", all(took)))])
        self.table("pool", self.HEAD, rows)
        rows = []
        own, bare = (self.samples("pool", f"{name} by callers") for name in ("claim", "bare login"))
        why = self.noise("pool")
        for name, of, limit in (("median", median, MORE_AT_MEDIAN), ("p99", lambda values: percentile(values, 0.99), MORE_AT_P99)):
            ours, theirs = of(own), of(bare)
            if ours is None or theirs is None:
                continue
            if why:
                self.refused.add("pool")
            more, text = ours - theirs, f"≤ {number(limit * 1e3)} ms more"
            rows.append([name, str(len(own)), f"{number(ours * 1e3)} ms", f"{number(theirs * 1e3)} ms", f"{number(more * 1e3)} ms",
                         "not judged" if why else self.judged("pool", name, (text, more <= limit))])
        self.table("pool", ["by ten callers at once", "acquires", "each, with spares", "bare login", "more", "target"], rows)
        parts = [(section, self.facts(section), words) for section, words in (("pool", "by ten callers"), ("day", "in a row")) if self.facts(section)]
        self.claims(parts)
        for _, facts, words in parts:
            self.leavings(facts, words)

    def claims(self, parts):
        """What claims have come to."""
        rows = []
        for section, facts, words in parts:
            counts = facts.get("counts", {})
            if not counts:
                continue
            bad = [counts.get(name, 0) for name in ("failed", "twice", "lost", "first logins failed")]
            each = self.samples(section, "claim by callers") or self.samples(section, "claim in a row")
            rows.append([words, str(counts["claims"]), spread(each, "ms") if each else "–", str(bad[0]), str(counts.get("no spare", 0)),
                         *(str(value) for value in bad[1:]),
                         self.judged("pool", f"claims {words}", ("none fails, none twice, none lost", not any(bad)))])
        self.table("pool", ["acquires with spares", "how many", "each", "failed", "took no spare", "with a job of another's",
                            "jobs without a lease, leases without a job", "first logins that fail", "target"], rows)

    def leavings(self, facts, words):
        """What claims and releases leave, and what they cost the controller."""
        rows = [[name, str(before), str(after), self.judged("pool", f"{name}, {words}", ("no more", after <= before))]
                for name, before, after in facts.get("left", [])]
        self.table("pool", [f"what is left of acquires and releases {words}", "before", "after", "target"], rows)
        rows = []
        for name, values in facts.get("requests", {}).items():
            parts = halves(values)
            if parts:
                first, second = parts
                rows.append([f"{name}, refills included", number(first), number(second),
                             self.judged("pool", f"requests of a {name}", ("no growth", second <= first * 1.25 + 0.25))])
        self.table("pool", [f"requests to slurmctld each, {words}", "first half", "second half", "target"], rows)

    def controller(self):
        parts = {count: self.results[f"controller-{count}"] for count in (1, 10, 100) if f"controller-{count}" in self.results}
        if not parts:
            return
        base = next(iter(parts.values()))["facts"]
        rows = []
        first = parts.get(1, next(iter(parts.values())))["facts"]["questions"]
        for count, part in parts.items():
            facts = part["facts"]
            asked, minutes = facts["questions"][-1], facts["points"][-1]
            at = dict(zip(facts["points"], facts["questions"]))
            rows.append([f"{count} waiting", f"{number(at.get(1, asked))}", f"{number(asked)}", f"{number(minutes)}",
                         f"{number(asked / minutes)}", f"{number(asked * facts['rpcs of one squeue'] / minutes)}",
                         f"{facts['still waiting']} of {count}",
                         self.judged("controller", f"{count} waiting", ("no growth", asked <= first[-1] * 1.25 + 1))
                         if count > 1 else "–"])
        self.table("controller", ["leases, each its own process", "questions in the first minute", "in all", "minutes",
                                  "questions a minute", "RPCs a minute", "waiting at the end", "target"], rows)
        rows = [[f"one bare {name}", number(base[f"rpcs of one {name}"])] for name in ("squeue", "sbatch")]
        ends = [part["facts"].get("rpcs of a release of one that waits") for part in parts.values()]
        if any(ends):
            rows.append(["release of a lease that waits", number(max(end for end in ends if end))])
        self.table("controller", ["call", "RPCs at slurmctld"], rows)

    def minutes(self):
        rows = []
        for name in sorted(self.results, key=lambda text: (len(text), text)):
            if name.startswith("minutes-"):
                facts = self.results[name]["facts"]
                asked, minutes = facts["questions"][-1], facts["points"][-1]
                verdict = self.judged("controller", f"{number(minutes)} minutes", ("≤ 40", asked <= 40)) if minutes >= 30 else "–"
                rows.append([name.split("-")[1], number(minutes), number(asked), verdict])
        self.table("controller", ["leases waiting", "minutes", "squeue calls in all", "target"], rows)

    def crowd(self):
        rows, lines = [], []
        facts = self.facts("crowd")
        for count in (1, 10, 100):
            name = f"acquire {count} at once"
            if not self.samples("crowd", name):
                continue
            rows.append([f"{count} at once", spread(self.samples("crowd", name), "s"),
                         spread(self.samples("crowd", f"each of {count} acquires"), "s"),
                         spread(self.samples("crowd", f"sbatch {count} at once"), "s"),
                         spread(self.samples("crowd", f"sbatch {count} one after the other"), "s"),
                         spread(self.samples("crowd", f"login {count} at once"), "s")])
            failed, twice = facts[f"failures of {count}"], facts[f"duplicates of {count}"]
            places, jobs = facts[f"places of {count}"], facts[f"jobs of {count}"]
            once = twice == 0 and places == jobs == count - failed
            lines.append([f"{count} at once", str(failed), str(twice), f"{jobs} jobs, {places} endpoints",
                          str(facts[f"logins that fail of {count}"]),
                          self.judged("crowd", f"{count} at once", ("none fails, none twice", failed == 0 and once))])
        self.table("crowd", ["acquires", "all answered after", "each", "sbatch alone, at once", "sbatch alone, one after the other",
                             "bare logins, at once"], rows)
        self.table("crowd", ["acquires", "failed", "with two jobs", "distinct", "logins that fail afterwards", "target"], lines)
        rows = []
        for count in (1, 10, 100):
            ours, bare = f"acquire {count} by callers", f"bare lease {count} by callers"
            own, other = median(self.samples("crowd", ours)), median(self.samples("crowd", bare))
            target = ("≤ 1.3 times", own <= 1.3 * other) if own and other else None
            rows.append(self.versus("crowd", f"{count}, all answered after", ours, bare, "s", target))
            rows.append(self.versus("crowd", f"each of {count}", f"each of {count} acquires by callers",
                                    f"each of {count} bare leases by callers", "s"))
            failed = facts.get(f"failures of {count} by callers")
            if failed is not None:
                rows.append([f"of {count}, failed", str(failed), str(facts.get(f"bare failures of {count} by callers", "–")), "–",
                             self.judged("crowd", f"{count} by ten callers", ("none", failed == 0))])
        self.table("crowd", ["by ten callers", "slurm-sandbox", "bare sbatch, sshd and first login", "ratio", "target"], rows)

    def release(self):
        rows = [self.versus("acquire", "one", "release, one after the other", "bare scancel to ended", "s")]
        facts = self.facts("crowd")
        for count in (1, 10, 100):
            ours, bare = f"release {count} at once", f"bare scancel {count} leases at once to ended"
            own, other = median(self.samples("crowd", ours)), median(self.samples("crowd", bare))
            target = ("≤ 5 times", own <= 5 * other) if own and other else None
            rows.append(self.versus("crowd", f"{count} at once, all ended, beside scancel of as many jobs of the same runner", ours, bare,
                                    "s", target))
            rows.append(self.versus("crowd", f"each of {count} at once", f"each of {count} releases", None, "s"))
            late, tried = facts.get(f"releases that fail of {count}"), facts.get(f"releases of {count}", count)
            if late is not None:
                rows.append([f"of {count} at once, not settled within 20 s, so `releasing`", f"{late} of {tried}", "–", "–",
                             self.judged("release", f"{count} at once", ("none", late == 0))])
                asked = facts.get(f"questions of {count} releases", 0) * count / tried
                rows.append([f"questions to Slurm of {count} at once", number(asked), "–", "–",
                             self.judged("release", f"questions of {count}", ("≤ 20", asked <= 20)) if asked else "–"])
        for count in (100, 10, 1):
            part = self.results.get(f"controller-{count}")
            if part and part["samples"].get("release of one that waits"):
                took = part["facts"]["release of all that wait, one after the other"]
                rows.append([f"{count} that wait, one after the other", f"{number(took)} s: {spread(part['samples']['release of one that waits'], 's')} each",
                             "–", "–", "–"])
                break
        stubborn = self.samples("stubborn", "release of a job that ignores TERM")
        if stubborn:
            rows.append(self.versus("stubborn", "of a job that ignores TERM", "release of a job that ignores TERM", None, "s",
                                    ("≤ 20 s", median(stubborn) <= 20)))
            rows.append(self.versus("stubborn", "until list shows that job no more (KillWait 30 s)", "until it is no more listed", None, "s"))
        self.table("release", self.HEAD, rows)

    def ssh(self):
        facts = self.facts("ssh")
        if not facts:
            return
        rows = []
        for (name, hands), (_, sessions) in zip(facts["handshakes"], facts["sessions"]):
            rows.append([name, str(hands), str(sessions)])
        later = sum(hands for _, hands in facts["handshakes"][1:])
        most = max(sessions for _, sessions in facts["sessions"])
        rows.append(["target", self.judged("ssh", "handshakes with a live connection", ("0 with a live connection", later == 0)),
                     self.judged("ssh", "sessions an operation", ("1", most <= 1))])
        self.table("ssh", ["operation, in this order", "handshakes", "sessions"], rows)
        here, there = median(self.samples("ssh", "acquire from here")), median(self.samples("ssh", "acquire on the login host"))
        close = (f"{number(here - there)} s more, ≤ 0.3 s", here - there <= 0.3) if here and there else None
        over = lambda ours, bare: (median(self.samples("ssh", ours)) - median(self.samples("ssh", bare))) * 1e3
        rows = [
            self.versus("ssh", "list, beside squeue through the same connection", "list", "bare squeue through the master", "ms"),
            self.versus("ssh", "list, beside squeue in a login shell through it", "list", "bare squeue in a login shell through the master", "ms"),
            self.versus("ssh", "acquire, beside the same on the login host", "acquire from here", "acquire on the login host", "s", close),
            self.versus("ssh", "login to command: connect, beside ssh -W", "login: connect", "login: bare ssh -W", "ms"),
            self.versus("ssh", "login to command: stdio, beside srun alone", "login: stdio", "login: bare srun", "ms"),
            self.versus("ssh", "login to command: direct, on the login host", "login: direct, on the login host", None, "ms"),
        ]
        for way, word in (("down", "from the job"), ("up", "to the job")):
            rows.append(self.versus("ssh", f"throughput {word}: connect, beside ssh -W", f"{way}: connect", f"{way}: bare ssh -W", "MB/s"))
            rows.append(self.versus("ssh", f"throughput {word}: stdio, beside srun alone", f"{way}: stdio", f"{way}: bare srun", "MB/s"))
        self.table("ssh", self.HEAD, rows)
        if self.samples("ssh", "list"):
            self.table("ssh", ["list over bare squeue", "ms"],
                       [["through the same connection", number(over("list", "bare squeue through the master"))],
                        ["in a login shell through it", number(over("list", "bare squeue in a login shell through the master"))]])

    def binary(self):
        facts = self.facts("binary")
        rows = [[name, value] for name, value in facts.get("rows", [])]
        self.table("binary", ["what", "figure"], rows)

    def make(self):
        for section in SECTIONS:
            getattr(self, section)()
            if section == "controller":
                self.minutes()

    # ------------------------------------------------------------ writing

    def text(self, section):
        parts = []
        for head, rows in self.tables.get(section, []):
            lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
            parts.append("\n".join(lines + ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows]))
        return "\n\n".join(parts)

    def about(self):
        """What is said of a run: what it was, and the machine in each section."""
        meta = self.results.get("meta", {})
        rows = [(name, meta[name]) for name in ("date", "command", "site", "machine", "versions", "load") if name in meta]
        when = document.told_when(meta)
        return rows + [(f"machine, {section}", f"{when}: {self.machine(section)}" if when else self.machine(section))
                       for section in sorted(self.results) if self.facts(section).get("noise") and section not in ("client", "adapter")]

    def summary(self):
        return document.summary_table([*self.about(), *document.targets(self.verdicts).items()])

    def show(self):
        for section in SECTIONS:
            if section in self.tables:
                print(f"\n{section}\n")
                for head, rows in self.tables[section]:
                    cells = [head] + [[str(cell).replace("**", "") for cell in row] for row in rows]
                    widths = [max(len(row[i]) for row in cells) for i in range(len(head))]
                    for row in cells:
                        print("  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())
                    print()
        print(re.sub(r"\|[-|]+\|\n|\| \| \|\n", "", self.summary()))

    def write(self, path):
        with open(path, encoding="utf-8") as file:
            text = self.written(file.read())
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)

    def measured(self, section):
        """Whether all that a section's tables are made of was measured."""
        return all(any(name.split("-")[0] == source for name in self.results) for source in SOURCES.get(section, [section]))

    def written(self, text):
        """The document with these figures. What was not measured stays: whole sections, tables and rows of sections that come from
        more than one measurement, what is said of the machine, and the verdicts of all that stays."""
        for section in SECTIONS:
            body, old = self.text(section), document.part(text, section)
            if body and old is not None:
                text = document.with_part(text, section, body if self.measured(section) else document.merged(old, body))
        old = document.part(text, "summary")
        if old is None:
            return text
        rows = dict(self.about())
        before = dict(pair for pair in map(document.cells, old.split("\n")) if len(pair) == 2)
        when = document.told_when(before)
        for name, value in before.items():
            if name.startswith("machine, ") and name not in rows:
                rows[name] = value if "commit" in value or not when else f"{when}: {value}"
        rows.update(document.targets(document.verdicts_of(text, SECTIONS)))
        return document.with_part(text, "summary", document.summary_table(rows.items()))

    # ------------------------------------------------------------ plots

    def plots(self, directory):
        try:
            import matplotlib
        except ImportError:
            print("no plots: python3-matplotlib is not installed", file=sys.stderr)
            return
        matplotlib.use("svg")
        from matplotlib import pyplot
        pyplot.rcParams.update({"svg.hashsalt": "slurm-sandbox", "font.size": 9, "figure.figsize": (6.4, 3.6), "axes.grid": True,
                                "grid.alpha": 0.3, "axes.spines.top": False, "axes.spines.right": False})
        os.makedirs(directory, exist_ok=True)

        def save(name):
            pyplot.legend(frameon=False)
            pyplot.tight_layout()
            pyplot.savefig(f"{directory}/{name}.svg", metadata={"Date": None})
            pyplot.close()

        def band(counts, values, label, **style):
            line, = pyplot.plot(counts, [median(each) for each in values], "o-", label=label, markersize=4, **style)
            low, high = zip(*(quartiles(each) for each in values))
            pyplot.fill_between(counts, low, high, alpha=0.2, color=line.get_color(), linewidth=0)

        counts = self.facts("list").get("counts", [])
        if len(counts) > 1:
            for name, label in (("squeue", "bare squeue"), ("list", "list"), ("cleanup", "cleanup")):
                band(counts, [[s * 1e3 for s in self.samples("list", f"{name} {count}: wall")] for count in counts], label)
            target = [2e3 * median(self.samples("list", f"squeue {count}: wall")) + 0.02 * count for count in counts]
            pyplot.plot(counts, target, "k--", linewidth=1, label="target: 2 × squeue + 20 µs a lease")
            pyplot.xscale("log")
            pyplot.yscale("log")
            pyplot.xlabel("leases")
            pyplot.ylabel("wall time, ms")
            save("list")

        drawn = False
        for name in sorted(self.results, key=lambda text: (len(text), text)):
            prefix, _, count = name.partition("-")
            if prefix == "minutes" or prefix == "controller" and not any(other.startswith("minutes-") for other in self.results):
                facts = self.results[name]["facts"]
                pyplot.step([0, *facts["points"]], [0, *facts["questions"]], where="post", label=f"{count} waiting")
                drawn = True
        if drawn:
            if pyplot.xlim()[1] > 29:
                pyplot.axhline(40, color="k", linestyle="--", linewidth=1, label="target for 30 minutes: 40")
            pyplot.xlabel("minutes")
            pyplot.ylabel("squeue calls, all processes together")
            save("controller")

        counts = [count for count in (1, 10, 100) if self.samples("crowd", f"acquire {count} at once")]
        if len(counts) > 1:
            for name, label in (("acquire", "acquire"), ("login", "bare logins"), ("release", "release"), ("sbatch", "bare sbatch")):
                band(counts, [self.samples("crowd", f"{name} {count} at once") for count in counts], f"{label}, all at once")
            pyplot.xscale("log")
            pyplot.yscale("log")
            pyplot.xlabel("calls at once, each its own process")
            pyplot.ylabel("seconds until the last has ended")
            save("crowd")


def main(words):
    _, results, page, pictures = words
    with open(results, encoding="utf-8") as file:
        report = Report(json.load(file))
    report.make()
    report.show()
    if page:
        report.write(page)
    if pictures:
        report.plots(pictures)
    for section in sorted(report.refused):
        print(f"{section} is not compared: {'; '.join(report.noise(section))}", file=sys.stderr)
    return TOO_NOISY if report.refused else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
