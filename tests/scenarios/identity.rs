//! Who a lease is: names that mean two, identities that are none, callers that mean another.

use std::time::Duration;

use serde_json::{Value, json};

use super::session::Login;
use super::site::{Call, Lease, Open, Setup, Site, hex, job_of};
use super::wire::Reply;

impl Site {
    /// Everything that the state dir says of leases, to see whether something was touched.
    #[track_caller]
    pub fn snapshot(&self) -> String {
        let script = format!(
            "cd {} 2>/dev/null && find leases trash -printf '%P %y %T@ %i\\n' | sort && cat leases/*/record.json",
            self.state_dir()
        );
        self.client(&script).stdout
    }
}

pub fn a_slug_that_two_leases_have(open: Open) {
    let site = open(Setup::default());
    let slug = format!("twin-{}", hex(3));
    let [one, two] = [0, 1].map(|_| site.adopt(Lease::of(&format!("cbx_{}", hex(6)), &slug)));
    let first = site.acquired(&one, json!({}));
    let second = site.acquired(&two, json!({}));
    assert_ne!(first["cloudId"], second["cloudId"]);
    let reply = site.resolve(&slug);
    reply.refused("not-found").says(&[&one.id, &two.id]);
    assert_eq!(site.resolve(&one.name).lease()["leaseId"], *one.id);
    let cli = site.cli(&["release", &slug]);
    assert_eq!((cli.code, cli.stdout.as_str()), (4, ""), "{}", cli.stderr);
    site.release_cleanly(&one);
    assert_eq!(site.resolve(&slug).lease()["leaseId"], *two.id, "now one lease alone has it");
    assert_eq!(Login::of(&second).ssh(&site, "echo $SLURM_JOB_ID").line(), job_of(&second));
    site.release_cleanly(&two);
}

pub fn a_slug_that_is_another_leases_job_id(open: Open) {
    let site = open(Setup::default());
    let one = site.lease("owner");
    let first = site.acquired(&one, json!({}));
    let job = job_of(&first);
    let two = site.adopt(Lease::of(&format!("cbx_{}", hex(6)), &job));
    let second = site.acquired(&two, json!({}));
    site.resolve(&job).refused("not-found").says(&[&one.id, &two.id]);
    assert_eq!(site.cli(&["release", &job]).code, 4);
    // The client's own release names the lease by id; only that one ends.
    site.release_cleanly(&two);
    assert_eq!(site.live_jobs(&one), [format!("{job} RUNNING")]);
    assert_eq!(site.resolve(&job).lease()["leaseId"], *one.id);
    assert_ne!(job_of(&second), job);
    site.release_cleanly(&one);
}

/// Another slug or name for a known lease id is refused and touches nothing; a client that got another identity back
/// would release the lease.
pub fn another_slug_or_name_for_a_lease(open: Open) {
    let site = open(Setup::default());
    let lease = site.lease("mine");
    let handed = site.acquired(&lease, json!({}));
    let before = site.snapshot();
    let other = Lease::of(&lease.id, "other-slug");
    for desired in [
        other.desired(),
        json!({"leaseId": lease.id, "slug": lease.slug, "name": "crabbox-other-00000000"}),
        json!({"leaseId": lease.id, "slug": "other-slug", "name": lease.name}),
    ] {
        for operation in ["acquire", "resolve"] {
            let reply = site.ask(operation, json!({"desired": desired, "id": lease.id}));
            site.refusal(&reply, "identity-mismatch", &lease, None).says(&["nothing was touched"]);
        }
        for operation in ["release", "touch"] {
            let reply = site.ask(operation, json!({"lease": desired}));
            site.refusal(&reply, "identity-mismatch", &lease, None);
        }
    }
    assert_eq!(site.snapshot(), before);
    assert_eq!(site.resolve(&lease.id).lease()["ssh"], handed["ssh"]);
    site.release_cleanly(&lease);
}

/// `expected` and the sent cloud id are constraints: what differs is refused, nothing is found by them.
pub fn a_caller_that_expects_another_lease(open: Open) {
    let site = open(Setup::default());
    let lease = site.lease("expected");
    let handed = site.acquired(&lease, json!({}));
    let right =
        json!({"leaseId": lease.id, "attemptLeaseId": lease.id, "slug": lease.slug, "cloudId": handed["cloudId"]});
    let before = site.snapshot();
    for (field, wrong) in [
        ("leaseId", "cbx_000000000000"),
        ("attemptLeaseId", "cbx_000000000000"),
        ("slug", "other"),
        ("cloudId", "slurm/job/999999"),
    ] {
        let mut expected = right.clone();
        expected[field] = json!(wrong);
        let only = site.ask(
            "resolve",
            json!({"id": lease.id, "desired": lease.desired(), "releaseOnly": true, "expected": expected}),
        );
        site.refusal(&only, "identity-mismatch", &lease, None);
        let release = site.ask("release", json!({"lease": lease.desired(), "expected": expected, "force": true}));
        site.refusal(&release, "identity-mismatch", &lease, None);
    }
    let mut sent = lease.desired();
    sent["cloudId"] = json!("slurm/job/999999");
    let release = site.ask("release", json!({"lease": sent}));
    site.refusal(&release, "identity-mismatch", &lease, None);
    assert_eq!(site.snapshot(), before);
    assert_eq!(Login::of(&handed).ssh(&site, "echo alive").line(), "alive");

    let only = site
        .ask("resolve", json!({"id": lease.id, "desired": lease.desired(), "releaseOnly": true, "expected": right}));
    assert_eq!(only.lease()["cloudId"], handed["cloudId"]);
    let mut sent = lease.desired();
    sent["cloudId"] = handed["cloudId"].clone();
    site.ask("release", json!({"lease": sent, "expected": right, "force": true})).ok();
    site.nothing_left(&lease);
}

/// Lease ids that are none: refused by every operation that takes one, before anything exists.
pub fn lease_ids_that_are_none(open: Open) {
    let site = open(Setup::default());
    site.client(&format!("mkdir -p {0}/x {0}/state/leases; echo precious > {0}/x/file", site.root)).ok();
    let long = "a".repeat(900_000);
    let ids = [
        "../../x",
        "..",
        ".",
        "",
        " ",
        "/etc",
        "cbx_",
        "cbx_../../../../x",
        "cbx_0123456789AB",
        "CBX_0123456789ab",
        "cbx_0123456789a",
        "cbx_0123456789abc",
        "cbx_0123456789ab\n",
        " cbx_0123456789ab",
        "cbx_0123456789ab\u{0}",
        "cbx_01234567８9ab",
        "-rf",
        "*",
        &long,
    ];
    for id in ids {
        let desired = json!({"leaseId": id, "slug": "s", "name": "n"});
        for (operation, fields) in [
            ("acquire", json!({"desired": desired})),
            ("release", json!({"lease": desired})),
            ("touch", json!({"lease": desired})),
        ] {
            let reply = site.ask(operation, fields);
            let shown: String = id.chars().take(40).collect();
            assert_eq!(reply.value["code"], "bad-request", "{operation} of {shown:?}: {}", reply.value);
            reply.error();
        }
        let resolved = site.ask("resolve", json!({"id": id, "desired": desired}));
        assert!(resolved.value.get("lease").is_none(), "{}", resolved.value);
    }
    // Too large for a request at all.
    let five_megabytes =
        site.ask("acquire", json!({"desired": {"leaseId": "a".repeat(5 << 20), "slug": "s", "name": "n"}}));
    five_megabytes.refused("bad-request").says(&["1048576"]);
    let found = site.client(&format!("cat {0}/x/file; ls {0}/state/leases; ls {0}", site.root));
    assert_eq!(found.ok(), "precious\nstate\nx\n".replace("state\n", &listed(&site)), "something was made or removed");
}

/// The fake's own files lie beside.
fn listed(site: &Site) -> String {
    let names = site.client(&format!("ls {} | grep -v '^x$'", site.root));
    names.stdout
}

/// Requests that the protocol does not allow: a clear error, nothing touched, never anything but one JSON value.
pub fn requests_that_are_none(open: Open) {
    let site = open(Setup::default());
    let good = Lease::new("good").desired();
    let deep = format!(r#"{{"protocolVersion":1,"operation":"list","config":{}"#, "[".repeat(200_000));
    let cases: Vec<(Vec<u8>, &str)> = vec![
        (b"".to_vec(), "empty"),
        (b"\n \t\n".to_vec(), "empty"),
        (b"nonsense".to_vec(), "JSON"),
        (b"\xff\xfe\x00".to_vec(), "JSON"),
        (b"null".to_vec(), "object"),
        (b"[]".to_vec(), "object"),
        (b"\"list\"".to_vec(), "object"),
        (b"{}".to_vec(), "protocolVersion"),
        (b"{\"protocolVersion\":1".to_vec(), "JSON"),
        (br#"{"protocolVersion":1,"operation":"list"}{"protocolVersion":1,"operation":"list"}"#.to_vec(), "JSON"),
        (br#"{"protocolVersion":1,"operation":"list"} trailing"#.to_vec(), "JSON"),
        (deep.into_bytes(), "recursion"),
        (json!({"protocolVersion": 2, "operation": "list"}).to_string().into(), "protocolVersion 2"),
        (json!({"protocolVersion": "1", "operation": "list"}).to_string().into(), "protocolVersion"),
        (json!({"protocolVersion": null, "operation": "list"}).to_string().into(), "protocolVersion"),
        (json!({"protocolVersion": 1}).to_string().into(), "operation"),
        (json!({"protocolVersion": 1, "operation": "destroy"}).to_string().into(), "destroy"),
        (json!({"protocolVersion": 1, "operation": "LIST"}).to_string().into(), "LIST"),
        (json!({"protocolVersion": 1, "operation": ["list"]}).to_string().into(), "operation"),
        (json!({"protocolVersion": 1, "operation": "acquire"}).to_string().into(), "leaseId"),
        (json!({"protocolVersion": 1, "operation": "acquire", "desired": null}).to_string().into(), "leaseId"),
        (json!({"protocolVersion": 1, "operation": "acquire", "desired": "x"}).to_string().into(), "desired"),
        (json!({"protocolVersion": 1, "operation": "acquire", "desired": {"leaseId": good["leaseId"]}}).to_string().into(), "slug"),
        (json!({"protocolVersion": 1, "operation": "acquire", "desired": {"leaseId": good["leaseId"], "slug": "../x", "name": "n"}}).to_string().into(), "slug"),
        (json!({"protocolVersion": 1, "operation": "acquire", "desired": {"leaseId": good["leaseId"], "slug": "x", "name": "a\nb"}}).to_string().into(), "name"),
        (json!({"protocolVersion": 1, "operation": "acquire", "desired": good, "keep": "yes"}).to_string().into(), "keep"),
        (json!({"protocolVersion": 1, "operation": "acquire", "desired": good, "config": {"cpu": 1}}).to_string().into(), "cpu"),
        (json!({"protocolVersion": 1, "operation": "acquire", "desired": good, "config": {"cpus": -1, "partition": "a b"}}).to_string().into(), "partition"),
        (json!({"protocolVersion": 1, "operation": "acquire", "desired": good, "config": {"extraSbatchArgs": ["--wrap=id"]}}).to_string().into(), "extraSbatchArgs"),
        (json!({"protocolVersion": 1, "operation": "acquire", "desired": good, "config": {"extraSbatchArgs": ["--outp=/tmp/x"]}}).to_string().into(), "extraSbatchArgs"),
        (json!({"protocolVersion": 1, "operation": "acquire", "desired": good, "config": {"runnerScript": "/nonexistent"}}).to_string().into(), "/nonexistent"),
        (json!({"protocolVersion": 1, "operation": "acquire", "desired": good, "config": {"runnerWorkRoot": "/home"}}).to_string().into(), "runnerWorkRoot"),
        (json!({"protocolVersion": 1, "operation": "resolve"}).to_string().into(), "id"),
        (json!({"protocolVersion": 1, "operation": "release"}).to_string().into(), "leaseId"),
        (json!({"protocolVersion": 1, "operation": "release", "lease": {"leaseId": 5}}).to_string().into(), "leaseId"),
        (json!({"protocolVersion": 1, "operation": "touch"}).to_string().into(), "leaseId"),
        (json!({"protocolVersion": 1, "operation": "touch", "lease": {"leaseId": "cbx_0123456789ab", "labels": {"a": 1}}}).to_string().into(), "labels"),
    ];
    for (input, words) in cases {
        let shown = String::from_utf8_lossy(&input).chars().take(120).collect::<String>();
        let output = site.run(Call { limit: Duration::from_secs(20), ..Call::raw(input) });
        let reply = Reply::read(&output);
        let refusal = reply.error();
        assert!(refusal.text.contains(words), "{shown}: no {words:?} in {}", refusal.text);
        assert!(refusal.code.starts_with("bad-"), "{shown}: {}", refusal.code);
    }
    assert_eq!(site.client(&format!("ls {}/leases 2>/dev/null", site.state_dir())).stdout, "");
    // What a good client adds is not refused: unknown fields, nulls, numbers as text.
    let reply = site.protocol(&json!({"protocolVersion": 1.0, "operation": "list", "repo": {"x": null}, "new": 1, "config": {"cpus": "2", "qos": 7}}));
    assert_eq!(reply.rows(), &Vec::<Value>::new());
}
