//! Two clusters whose job ids are the same: each call goes to the cluster where its job is.

use serde_json::json;

use super::session::Login;
use super::site::{Open, Setup, job_of};

pub fn two_clusters_with_the_same_job_ids(open: Open) {
    let site = open(Setup::default());
    // An innocent job here, and ids there brought up to it.
    let prepare = "set -e
        there=$(sbatch -M annex --parsable -H -o /dev/null --wrap true); there=${there%;*}
        scancel -M annex $there
        here=0
        while [ $here -le $there ]; do
          [ $here = 0 ] || scancel $here
          here=$(sbatch --parsable -o /dev/null --job-name=innocent --wrap 'sleep 300')
        done
        while [ $((there + 1)) -lt $here ]; do
          there=$(sbatch -M annex --parsable -H -o /dev/null --wrap true); there=${there%;*}
          scancel -M annex $there
        done
        echo $here";
    let innocent = site.shell(prepare).line().to_owned();
    let lease = site.lease("annex");
    let handed = site.acquired(&lease, json!({"clusters": "annex"}));
    assert_eq!(job_of(&handed), format!("{innocent};annex"), "the ids do not collide");
    assert_eq!(handed["labels"]["slurmCluster"], "annex");
    assert_eq!(
        Login::of(&handed).ssh(&site, "echo $SLURM_CLUSTER_NAME $SLURM_JOB_ID").line(),
        format!("annex {innocent}")
    );
    for word in [&format!("slurm/job/{innocent};annex"), &innocent, &lease.slug] {
        assert_eq!(site.resolve(word).lease()["ssh"], handed["ssh"], "{word}");
    }
    assert_eq!(site.row(&lease).unwrap()["status"], "RUNNING");
    // Its own cluster is on record: a release with today's config, which names none, finds it.
    site.release_cleanly(&lease);
    assert_eq!(site.shell(&format!("squeue -h -j {innocent} -o '%T %j'")).line(), "RUNNING innocent");

    // The other way round: a lease here, an innocent job of the same id there.
    let lease = site.lease("here");
    let job = job_of(&site.acquired(&lease, json!({})));
    let there = format!(
        "set -e; there=0; while [ $there -lt {job} ]; do [ $there = 0 ] || scancel -M annex $there; \
         there=$(sbatch -M annex --parsable -o /dev/null --job-name=innocent --wrap 'sleep 300'); there=${{there%;*}}; done; echo $there"
    );
    let there = site.shell(&there).line().to_owned();
    site.release_cleanly(&lease);
    let states = site.shell(&format!("squeue -h -M annex -j {there} -o '%T %j' | grep -v CLUSTER"));
    assert!(states.line() == "RUNNING innocent" || states.line() == "PENDING innocent", "{}", states.stdout);
    site.shell(&format!("scancel {innocent}; scancel -M annex {there}")).ok();

    let lease = site.lease("nowhere");
    let reply = site.acquire(&lease, json!({"clusters": "nowhere"}));
    site.refusal(&reply, "submit-rejected", &lease, None).says(&["clusters"]);
    site.nothing_left(&lease);
}
