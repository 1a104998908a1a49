//! Records that cannot be read: the lease stays listed with an identity the client accepts, and stays releasable.

use serde_json::json;

use super::site::{Lease, Open, Setup, job_of};

/// What happens to `record.json`, as shell lines in the lease's directory.
pub const DAMAGES: &[(&str, &str)] = &[
    ("truncated", "head -c 40 record.json > x && mv x record.json"),
    ("empty", ": > record.json"),
    ("binary", "head -c 500 /dev/urandom > record.json"),
    ("missing", "rm record.json"),
    ("another_leases", r#"sed -i 's/cbx_[0-9a-f]\{12\}/cbx_0123456789ab/' record.json"#),
    ("a_directory", "rm record.json && mkdir record.json"),
    ("a_link", "mv record.json ../moved && ln -s ../moved record.json"),
    ("all_but_the_key_gone", "rm record.json identity.json"),
];

pub fn damaged_records(open: Open, damage: &str) {
    let site = open(Setup::default());
    let [beside, lease] = [site.lease("whole"), site.lease("damaged")];
    site.acquired(&beside, json!({}));
    let job = job_of(&site.acquired(&lease, json!({})));
    site.client(&format!("cd {} && {damage}", site.record_dir(&lease))).ok();

    let row = site.row(&lease).expect("listed");
    if !damage.contains("identity.json") {
        assert_eq!((&row["slug"], &row["name"]), (&json!(lease.slug), &json!(lease.name)));
    } else {
        assert_eq!(row["slug"], format!("damaged-{}", &lease.id[4..]));
    }
    assert!(
        row["cloudId"] == format!("slurm/lost/{}", lease.id) || row["cloudId"] == format!("slurm/job/{job}"),
        "{row}"
    );
    for (operation, fields) in [
        ("resolve", json!({"id": lease.id})),
        ("acquire", json!({"desired": lease.desired()})),
        ("touch", json!({"lease": lease.desired()})),
    ] {
        let reply = site.ask(operation, fields);
        if reply.value.get("lease").is_none() && operation != "touch" {
            reply.error().says(&[&lease.id]);
        }
    }
    assert_eq!(site.live_jobs(&lease), [format!("{job} RUNNING")], "nothing but release ends the job");
    let identity = Lease {
        id: lease.id.clone(),
        slug: row["slug"].as_str().unwrap().into(),
        name: row["name"].as_str().unwrap().into(),
    };
    let reply = site.release(&identity);
    assert!(reply.value.get("error").is_none(), "{}", reply.value);
    site.client(&format!("rm -f {}/leases/moved", site.state_dir())).ok();
    site.nothing_left(&lease);
    assert_eq!(site.row(&lease), None);
    assert_eq!(site.resolve(&beside.id).lease()["status"], "RUNNING");
    site.release_cleanly(&beside);
}

/// A state dir that others may write to, or that is none, is refused with the remedy.
pub fn a_state_dir_that_is_not_ours(open: Open) {
    let site = open(Setup::default());
    let lease = site.lease("state");
    for (prepare, words) in [
        ("mkdir -m 0777 $D", "mode"),
        ("touch $D", ""),
        ("ln -s $D.gone $D", ""),
        ("mkdir -m 0700 $D; mkdir -m 0700 $D/leases; echo 99 > $D/format", "newer"),
    ] {
        let dir = site.state_dir();
        site.client(&format!("D={dir}; rm -rf $D; {prepare}")).ok();
        let reply = site.acquire(&lease, json!({}));
        let refusal = reply.error();
        assert!(["storage", "bad-config"].contains(&refusal.code.as_str()), "{prepare}: {}", reply.value);
        assert!(refusal.text.contains(&dir) && refusal.text.contains(words), "{prepare}: {}", refusal.text);
        assert_eq!(site.all_jobs(&lease), Vec::<String>::new(), "{prepare}");
    }
    site.client(&format!("rm -rf {}", site.state_dir())).ok();
}
