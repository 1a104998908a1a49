//! A controller that takes long to fail: each call asks it once, and says so soon.

use serde_json::json;

use crate::scenarios::process;
use crate::scenarios::site::{Setup, Site};

/// How often squeue has been run.
fn questions(site: &Site) -> u32 {
    site.shell("fake-slurm calls squeue").line().parse().expect("a number")
}

#[test]
fn a_call_asks_a_silent_controller_once() {
    let site = Site::fake(Setup::default());
    let lease = site.lease("silent");
    site.acquired(&lease, json!({}));
    site.shell("fake-slurm set squeue hang 7; fake-slurm set squeue down").ok();
    let before = questions(&site);
    let cleanup = site.ask("cleanup", json!({}));
    let message = cleanup.ok()["message"].as_str().expect("a message");
    assert!(message.contains("orphans were not looked for: squeue failed"), "{message}");
    assert_eq!(questions(&site), before + 1);
    let release = site.release(&lease);
    site.refusal(&release, "releasing", &lease, None).says(&["squeue failed", "no permit any more"]);
    assert!(release.took < process::limit(14), "nothing is waited for: {:?}", release.took);
    assert_eq!(questions(&site), before + 2);
    site.shell("fake-slurm clear squeue").ok();
    site.release_cleanly(&lease);
}
