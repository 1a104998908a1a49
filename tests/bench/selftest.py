#!/usr/bin/env python3
"""Tries what the benchmark says of its figures, and its stand-in for the client, without a machine to measure: no time is
asserted here."""

import contextlib
import io
import json
import os
import stat
import subprocess
import sys
import tempfile
import types
import unittest

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import client
import crowd
import document
import noise
import report
import spares
import verbs

QUIET = {"cores": 2, "load": [0.1, 0.4], "others": [0.01, 0.02, 0.01], "stolen": 0.0}
EVEN = [0.010, 0.011, 0.012, 0.011, 0.010]


class Noise(unittest.TestCase):
    def test_cpu_times_are_read(self):
        self.assertEqual(noise.parse_cpu("cpu  10 1 5 80 4 1 1 3 7 0\ncpu0 1 1 1\n"), (18, 3, 105))
        for text in ("", "cpu 1 2\n", "intr 1 2 3 4 5 6 7 8 9\n"):
            self.assertIsNone(noise.parse_cpu(text))

    def test_shares_are_of_what_passed(self):
        self.assertEqual(noise.shares((10, 0, 100), (60, 10, 200)), (0.5, 0.1))
        for before, after in (((1, 0, 5), (1, 0, 5)), (None, (1, 0, 5)), ((1, 0, 5), None)):
            self.assertIsNone(noise.shares(before, after))

    def test_each_reason_alone_is_enough(self):
        self.assertEqual(noise.reasons(QUIET, EVEN), [])
        self.assertEqual(noise.reasons({}), [], "results of older versions say nothing")
        for facts, control, word in (
            ({**QUIET, "others": [0.1, 0.3, 0.4]}, EVEN, "others"),
            ({**QUIET, "stolen": 0.06}, EVEN, "stolen"),
            (QUIET, [0.01, 0.01, 0.03, 0.04, 0.05], "squeue"),
        ):
            found = noise.reasons(facts, control)
            self.assertEqual(len(found), 1, found)
            self.assertIn(word, found[0])

    def test_a_moment_of_work_elsewhere_and_a_load_from_before_are_no_reason(self):
        self.assertEqual(noise.reasons({**QUIET, "others": [0.01, 0.9, 0.02], "load": [9.0, 9.0]}, EVEN), [])

    def test_the_spread_of_few_times_is_not_known(self):
        self.assertIsNone(noise.spread_of([1, 9, 90]))
        self.assertEqual(noise.spread_of([1, 1, 1, 1]), 1)

    def test_the_machine_is_described(self):
        text = noise.described(QUIET, EVEN)
        for word in ("load 0.1 to 0.4 on 2 cores", "others 1%", "stolen 0%", "quartiles"):
            self.assertIn(word, text)
        self.assertEqual(noise.described({}), "not recorded")


class Verdict(unittest.TestCase):
    def test_the_others_median_counts_only_outside_our_range(self):
        ours = [1.0, 1.1, 1.2, 1.3, 1.4]
        for theirs, expected in (([2.0] * 5, "faster"), ([0.5] * 5, "**slower**"), ([1.35] * 5, "no difference"), ([], "–")):
            self.assertEqual(report.verdict(ours, theirs, []), expected)

    def test_noise_and_few_runs_are_said(self):
        self.assertIn("too noisy", report.verdict([1.0] * 9, [2.0] * 9, ["others"]))
        self.assertIn("too few", report.verdict([1.0] * 4, [2.0] * 9, []))

    def test_a_range_tells_what_failed(self):
        self.assertEqual(report.ranged([0.1, 0.3, 0.2], "ms"), "200 ms (100–300, n 3)")
        self.assertEqual(report.ranged([], "s", 2), "–, 2 failed")


def results(facts, control=EVEN, ours=1.0, theirs=2.0):
    samples = {"ours: warmup": [ours] * 5, "theirs: warmup": [theirs] * 5, "control": list(control)}
    return {"client": {"samples": samples, "facts": {"noise": facts, "failed: theirs: stop": 5}}, "meta": {"client": "it"}}


class Callers(unittest.TestCase):
    def test_each_does_its_share(self):
        for count in (1, 10, 25, 100):
            _, done = crowd.by_callers(count, lambda number: number)
            self.assertEqual(sorted(done), list(range(count)))


class Report(unittest.TestCase):
    def made(self, given):
        made = report.Report(given)
        made.make()
        return made

    def test_a_regression_shows(self):
        made = self.made(results(QUIET, ours=3.0))
        self.assertIn("| warmup | 3 s (3–3, n 5) | 2 s (2–2, n 5) | 1.5 | **slower** |", made.text("client"))
        self.assertIn("| stop | – | –, 5 failed | – | – |", made.text("client"))
        self.assertEqual(made.refused, set())

    def test_nothing_is_compared_on_a_busy_machine(self):
        made = self.made(results({**QUIET, "others": [0.9]}))
        self.assertIn("not compared: too noisy", made.text("client"))
        self.assertIn("others used 90%", made.text("client"))
        self.assertEqual(made.refused, {"client"})

    def test_figures_beside_bare_commands_are_not_compared_either(self):
        samples = {"list, no lease: cpu": [0.009] * 5, "nothing: bare true: cpu": [0.001] * 5}
        for others, ratio, target in (([0.0], "9", "**not met**"), ([0.9], "too noisy", "not judged")):
            made = self.made({"startup": {"samples": samples, "facts": {"noise": {**QUIET, "others": others}}}})
            self.assertIn(f"| {ratio} |", made.text("startup"))
            self.assertIn(target, made.text("startup"))

    def test_a_hundred_by_ten_callers_are_judged_beside_bare_jobs(self):
        for ours, others, verdict in ((13.0, [0.0], "| 1.3 | ≤ 1.3 times: met |"), (13.2, [0.0], "**not met**"), (13.0, [0.9], "not judged")):
            samples = {"acquire 100 by callers": [ours], "bare lease 100 by callers": [10.0]}
            facts = {"noise": {**QUIET, "others": others}, "failures of 100 by callers": 0}
            made = self.made({"crowd": {"samples": samples, "facts": facts}})
            self.assertIn(verdict, made.text("crowd"))

    def test_releases_at_once_are_judged_by_time_answers_and_questions(self):
        samples = {"release 100 at once": [12.0], "bare scancel 100 leases at once to ended": [3.0]}
        for late, asked, words in ((0, 34, ("≤ 5 times: met", "none: met", "17")), (23, 60, ("| 23 of 200 |", "none: **not met**", "≤ 20: **not met**"))):
            facts = {"noise": QUIET, "releases that fail of 100": late, "releases of 100": 200, "questions of 100 releases": asked}
            made = self.made({"crowd": {"samples": samples, "facts": facts}})
            for word in words:
                self.assertIn(word, made.text("release"))

    def test_alone_there_is_nothing_to_refuse(self):
        given = results({**QUIET, "others": [0.9]})
        del given["client"]["samples"]["theirs: warmup"]
        self.assertEqual(self.made(given).refused, set())

    def test_the_exit_status_says_that_nothing_was_compared(self):
        for others, expected in (([0.0], 0), ([0.9], report.TOO_NOISY)):
            with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
                json.dump(results({**QUIET, "others": others}), file)
                file.flush()
                with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                    self.assertEqual(report.main(["report", file.name, "", ""]), expected)


def spare_results(more=0.0, others=0.0, **counts):
    """200 acquires of which each takes so much more than a bare login as `more` says."""
    logins = [0.2 + number / 1000 for number in range(200)]
    samples = {"claim": [0.25 + more] * 10, "bare login": [0.2] * 10, "ordinary acquire": [1.0] * 10, "alone: took a spare": [1] * 10,
               "claim by callers": [value + 0.05 + more for value in logins], "bare login by callers": logins,
               "first probe of the client succeeds": [1] * 10}
    facts = {"noise": {**QUIET, "others": [others]}, "counts": {"claims": 200, **counts}, "left": [["jobs", 0, 0]],
             "requests": {"claim": [0.4, 0.5, 0.4, 0.5]}}
    return {"pool": {"samples": samples, "facts": facts},
            "meta": {"date": "2026-12-01 10:00 UTC", "versions": "slurm-sandbox 0.1.0 of commit abc1234", "machine": "8 × Some CPU"}}


class Spares(unittest.TestCase):
    def made(self, given):
        made = report.Report(given)
        made.make()
        return made

    def test_what_the_look_at_a_host_prints_is_read(self):
        text = "process sshd\nprocess bash\nfile /tmp/a b\n\n"
        self.assertEqual(spares.looked_at(text), {"process": ["sshd", "bash"], "file": ["/tmp/a b"]})

    def test_the_look_sees_processes_and_files_of_the_user(self):
        with tempfile.NamedTemporaryFile(dir="/tmp") as file, subprocess.Popen(["sleep", "60"]) as process:
            seen = spares.looked_at(subprocess.run(["bash", "-c", spares.LOOK], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                                                   check=False).stdout.decode(errors="replace"))
            process.kill()
            self.assertIn("sleep", seen["process"])
            self.assertIn(file.name, seen["file"])

    def test_jobs_are_those_of_the_state_dir(self):
        listing = ("7 pool:cbx_000000000007:ab:here\n8 pool:cbx_000000000008:cd:elsewhere\n9 cbx:cbx_000000000009:ef:here\n"
                   "10 (null)\n11\n12 pool:cbx_000000000012:ab:here by the site\n")
        self.assertEqual(spares.pooled_jobs(listing, "here"), {"7", "12"})
        pools = [{"spares": [{"jobId": 7}, {"seat": "no job known"}]}, {"spares": [{"jobId": 9}]}]
        self.assertEqual(spares.known_jobs(pools), {"7", "9"})
        self.assertEqual(spares.job_of({"cloudId": "slurm/job/12;annex"}), "12")

    def test_a_job_that_two_leases_have_is_found(self):
        for jobs, expected in ((["1", "2"], 0), (["1", "2", "1"], 1), (["1", "1", "1"], 2), ([], 0)):
            self.assertEqual(spares.twice(jobs), expected)

    def test_a_job_of_nobody_and_a_lease_without_a_job_are_found(self):
        for jobs, expected in (({"1", "2"}, 0), ({"1", "2", "3"}, 1), ({"2"}, 1), (set(), 1)):
            self.assertEqual(spares.unmatched(jobs, {"1"}, {"2"}), expected)

    def test_what_has_come_is_named(self):
        self.assertEqual(spares.more_than(["n1 sshd", "a"], ["n1 sshd", "n1 sshd", "b"]), ["n1 sshd", "b"])
        self.assertEqual(spares.more_than(["a", "b"], ["b"]), [])

    def test_files_are_counted_without_what_is_counted_elsewhere(self):
        with tempfile.TemporaryDirectory() as place:
            os.makedirs(f"{place}/shared/seats")
            os.makedirs(f"{place}/cache")
            with open(f"{place}/cache/answer", "w", encoding="ascii"):
                pass
            self.assertEqual(sorted(spares.files_below(place, [f"{place}/shared"])), ["cache", "cache/answer"])
            self.assertEqual(spares.files_below(f"{place}/shared"), ["seats"])

    def test_percentiles_are_values_that_were_measured(self):
        values = [float(number) for number in range(200, 0, -1)]
        self.assertEqual([report.percentile(values, share) for share in (0.5, 0.99, 1)], [100, 198, 200])
        self.assertEqual(report.percentile([3.0], 0.99), 3.0)
        self.assertIsNone(report.percentile([], 0.5))

    def test_halves_are_compared_by_their_means(self):
        self.assertEqual(report.halves([1, 2, 3, 5]), (1.5, 4))
        self.assertIsNone(report.halves([1]))

    def test_an_acquire_is_judged_beside_a_bare_login(self):
        for more, words in ((0.0, ("≤ a login + 60 ms = 260 ms: met", "| 50 ms | ≤ 60 ms more: met |", "≤ 150 ms more: met")),
                            (0.02, ("= 260 ms: **not met**", "≤ 60 ms more: **not met**", "≤ 150 ms more: met")),
                            (0.2, ("≤ 150 ms more: **not met**",))):
            text = self.made(spare_results(more)).text("pool")
            for word in words:
                self.assertIn(word, text)
        busy = self.made(spare_results(others=0.9))
        self.assertEqual(busy.refused, {"pool"})
        self.assertNotIn("ms more: ", busy.text("pool"))

    def test_one_claim_gone_wrong_is_enough(self):
        good = "none fails, none twice, none lost: met"
        self.assertIn(good, self.made(spare_results(**{"no spare": 3})).text("pool"))
        for name in ("failed", "twice", "lost", "first logins failed"):
            self.assertIn("none lost: **not met**", self.made(spare_results(**{name: 1})).text("pool"), name)

    def test_what_stays_and_what_grows_is_seen(self):
        given = spare_results()
        given["pool"]["facts"].update({"left": [["jobs", 0, 1], ["files", 3, 3]], "requests": {"claim": [1, 1, 2, 2]}})
        text = self.made(given).text("pool")
        for word in ("| jobs | 0 | 1 | no more: **not met** |", "| files | 3 | 3 | no more: met |", "| 1 | 2 | no growth: **not met** |"):
            self.assertIn(word, text)

    def test_many_in_a_row_stand_beside_them(self):
        given = spare_results()
        given["day"] = {"samples": {"claim in a row": [0.25] * 40}, "facts": {"counts": {"claims": 40, "lost": 1}}}
        text = self.made(given).text("pool")
        self.assertIn("| in a row | 40 | 250 ms (250–250, n 40) | 0 | 0 | 0 | 1 | 0 |", text)


PAGE = """<!-- bench summary -->
| | |
|---|---|
| date | 2026-11-28 03:01 UTC |
| command | `scripts/bench` |
| machine | 2 × Other CPU |
| versions | slurm-sandbox 0.1.0 of commit 8e48d92, slurm-wlm 22.05.8 |
| machine, crowd | load 0.4 |
| machine, pool | load 9.9 |
| targets | 1 of 1 met |
<!-- end summary -->

<!-- bench list -->
| what | target |
|---|---|
| list of 1 | ≤ 10.8 ms: **not met** |
<!-- end list -->

<!-- bench pool -->
Not run on a quiet machine yet.
<!-- end pool -->

<!-- bench release -->
| what | slurm-sandbox | bare | ratio | target |
|---|---|---|---|---|
| one | 1 s (n 1) | – | – | – |
| of 100 at once, not settled within 20 s, so `releasing` | 3 of 9 | – | – | none: **not met** |
| of a job that ignores TERM | 8.23 s (n 1) | – | – | ≤ 20 s: met |
<!-- end release -->

Text.
"""


class Page(unittest.TestCase):
    def written(self, given, page=PAGE):
        made = report.Report(given)
        made.make()
        return made.written(page)

    def test_what_was_not_measured_stays(self):
        text = self.written(spare_results())
        for line in PAGE.split("\n")[12:17] + PAGE.split("\n")[22:]:
            self.assertIn(line, text)
        self.assertNotIn("Not run", text)

    def test_rows_of_other_measurements_stay_where_they_were(self):
        facts = {"noise": QUIET, "releases that fail of 100": 0, "releases of 100": 200}
        text = self.written({"crowd": {"samples": {"release 100 at once": [3.0]}, "facts": facts}})
        names = [document.cells(line)[0] for line in document.part(text, "release").split("\n")[2:]]
        self.assertEqual(names[0], "one")
        self.assertEqual(names[-1], "of a job that ignores TERM")
        self.assertEqual(sum(name.startswith("of 100 at once, not settled") for name in names), 1)
        self.assertIn("| 0 of 200 |", text)
        self.assertNotIn("3 of 9", text)

    def test_a_section_that_was_measured_whole_is_new(self):
        samples = {"squeue 10: wall": [0.01] * 5, "list 10: wall": [0.01] * 5, "cleanup 10: wall": [0.01] * 5}
        text = self.written({"list": {"samples": samples, "facts": {"counts": [10], "noise": QUIET}}})
        self.assertIn("list of 10", text)
        self.assertNotIn("list of 1 ", text)

    def test_the_summary_tells_when_each_section_was_measured(self):
        summary = document.part(self.written(spare_results()), "summary")
        for line in ("| date | 2026-12-01 10:00 UTC |", "| machine, crowd | 2026-11-28, commit 8e48d92, 2 × Other CPU: load 0.4 |",
                     "| machine, pool | 2026-12-01, commit abc1234, 8 × Some CPU: load 0.1 to 0.4 on 2 cores"):
            self.assertIn(line, summary)
        self.assertNotIn("load 9.9", summary)

    def test_the_summary_counts_the_verdicts_of_the_whole_page(self):
        text = self.written(spare_results())
        missed = "not met: list: list of 1 (≤ 10.8 ms); release: of 100 at once, not settled within 20 s, so `releasing` (none)"
        self.assertIn(missed, document.part(text, "summary"))
        found = document.verdicts_of(text, report.SECTIONS)
        self.assertIn(f"| targets | {sum(met for *_, met in found)} of {len(found)} met;", text)

    def test_written_twice_is_written_once(self):
        once = self.written(spare_results())
        self.assertEqual(self.written(spare_results(), once), once)

    def test_tables_that_are_not_there_any_more_in_part_stay(self):
        old = "| a | b |\n|---|---|\n| 1 | x |\n\n| c |\n|---|\n| 2 |"
        self.assertEqual(document.merged(old, "| a | b |\n|---|---|\n| 0 | y |\n| 1 | z |"),
                         "| a | b |\n|---|---|\n| 0 | y |\n| 1 | z |\n\n| c |\n|---|\n| 2 |")


ADAPTER = """#!/bin/sh
read -r request
printf '%s\\n' "$request" >>"$0.asked"
case $request in
  *'"operation":"acquire"'* | *'"operation":"resolve"'*) printf '%s' '{"protocolVersion":1,"lease":{"leaseId":"x","ssh":{"user":"u"}}}' ;;
  *'"operation":"list"'*) printf '%s' '{"protocolVersion":1,"leases":[]}' ;;
  *) printf '%s' '{"protocolVersion":1}' ;;
esac
"""


class Commands(unittest.TestCase):
    def test_a_program_that_is_not_there_is_named(self):
        self.assertEqual(verbs.command_of("against", "sh -c 'a b'"), ["sh", "-c", "a b"])
        for text in ("/nonesuch/adapter x", "''"):
            with self.assertRaises(SystemExit) as caught:
                verbs.command_of("against", text)
            self.assertIn("--against", str(caught.exception))


class Rounds(unittest.TestCase):
    def test_each_side_begins_as_often(self):
        bench = types.SimpleNamespace(runs=4)
        self.assertEqual(list(verbs.rounds(bench, ["a", "b"])), [["a", "b"], ["b", "a"]] * 2)
        self.assertEqual(list(verbs.rounds(bench, ["a"])), [["a"]] * 4)


class StandIn(unittest.TestCase):
    def setUp(self):
        self.place = tempfile.TemporaryDirectory()
        self.addCleanup(self.place.cleanup)
        adapter = f"{self.place.name}/adapter"
        with open(adapter, "w", encoding="ascii") as file:
            file.write(ADAPTER)
        os.chmod(adapter, stat.S_IRWXU)
        self.path = f"{self.place.name}/config.yaml"
        side = verbs.Side("ours", [adapter])
        with open(self.path, "w", encoding="ascii") as file:
            json.dump(verbs.configuration(side, {"cpus": 1}, "/w"), file)
        self.asked = f"{adapter}.asked"

    def requests(self):
        with open(self.asked, encoding="ascii") as file:
            return [json.loads(line) for line in file]

    def test_a_name_is_that_of_the_client(self):
        self.assertEqual(client.name_of("cbx_4b38f35d4e31", "smoke"), "crabbox-smoke-42b80a31")

    def test_what_is_empty_is_left_out(self):
        self.assertEqual(json.loads(client.request("list", {}, keep=False, id="")), {"protocolVersion": 1, "operation": "list"})

    def test_an_answer_is_judged_as_the_client_does(self):
        self.assertEqual(client.answer_of(0, '{"protocolVersion":1}\n', ""), {"protocolVersion": 1})
        for code, out, expected in ((3, "", 3), (-9, "", 255), (0, "", 5), (0, '{"error":"no"}', 5), (0, "{}", 5)):
            with self.assertRaises(client.Failed) as caught:
                client.answer_of(code, out, "said")
            self.assertEqual(caught.exception.code, expected)

    def test_stop_resolves_for_the_release_alone_and_logs_in_nowhere_without_a_host(self):
        client.Client(self.path).stop("slug")
        resolve, release = self.requests()
        self.assertEqual((resolve["operation"], resolve["id"], resolve["releaseOnly"]), ("resolve", "slug", True))
        self.assertEqual((release["operation"], release["force"], release["lease"]["leaseId"]), ("release", True, "x"))
        self.assertEqual(release["lease"]["labels"]["ttl_secs"], "5400")

    def test_a_lease_that_is_known_is_asked_for_by_name(self):
        stand_in = client.Client(self.path)
        with self.assertRaises(client.Failed):
            stand_in.warmup("slug")  # the answer has no host
        stand_in.resolve("slug")
        acquire, resolve = self.requests()
        self.assertTrue(acquire["keep"])
        self.assertEqual(acquire["desired"], resolve["desired"])
        self.assertEqual(resolve["id"], acquire["desired"]["name"])

    def test_a_login_is_the_clients(self):
        command = client.ssh_command({"user": "u", "host": "n1", "port": "2200", "key": "/k/id", "proxyCommand": "way %h"})
        self.assertIn("-oUserKnownHostsFile=/k/known_hosts", command)
        self.assertIn("-oProxyCommand=way %h", command)
        self.assertEqual(command[-1], "u@n1")


if __name__ == "__main__":
    unittest.main()
