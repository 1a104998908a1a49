//! doctor and acquire agree: what acquire fails with is named before, and what works is not red.

use serde_json::{Value, json};

use crate::scenarios::site::{Setup, Site};
use crate::scenarios::wire::Reply;

/// A configuration, variables of the caller, and what doctor says of them.
type Examined<'a> = (Value, &'a [(&'a str, &'a str)], &'a str);

fn site() -> Site {
    Site::fake(Setup::default())
}

fn examined(site: &Site, config: &Value, env: &[(&str, &str)]) -> Reply {
    let request = site.request("doctor", json!({"config": config}));
    let call =
        env.iter().fold(crate::scenarios::site::Call::request(&request), |call, (name, value)| call.env(name, value));
    Reply::read(&site.run(call))
}

/// Setups in which no lease can work on any node, and what the red line names.
#[test]
fn what_can_never_work_is_red() {
    let site = site();
    let setups: [Examined; 5] = [
        (json!({"preamble": "if [ 1"}), &[], "preamble: bash -n says"),
        (json!({"readyCheck": "false"}), &[], "readyCheck is `false`"),
        (json!({"proxyCommand": "nc-not-here {host} {port}"}), &[], "nc-not-here"),
        (json!({"runnerWorkRoot": "/proc/x"}), &[], "work root"),
        (json!({}), &[("CBX_SSH_PORT", "abc")], "CBX_SSH_PORT is abc"),
    ];
    for (config, env, text) in setups {
        examined(&site, &config, env).refused("doctor-red").says(&[text]);
    }
}

/// Setups that a node may yet make good, and the key or variable that the warning names.
#[test]
fn what_a_node_may_make_good_is_a_warning() {
    let site = site();
    let setups: [Examined; 16] = [
        (
            json!({"preamble": ["set -e", "source /nonexistent/modules.sh"]}),
            &[],
            "preamble sources /nonexistent/modules.sh",
        ),
        (json!({"preamble": "exit 0"}), &[], "preamble calls exit"),
        (json!({"launcher": "apptainer-not-here exec x"}), &[], "launcher begins with apptainer-not-here"),
        (json!({"bindAddress": "192.0.2.77"}), &[], "bindAddress is 192.0.2.77"),
        (json!({"endpointHost": "{node}.nowhere.invalid"}), &[], "localhost.nowhere.invalid"),
        (json!({"endpointHost": "runner:*.example.org"}), &[], "endpointHost is runner:*.example.org"),
        (json!({"runnerWorkRoot": "/etc/passwd/x"}), &[], "/etc/passwd is a file"),
        (json!({"takenGraceSeconds": 1}), &[], "takenGraceSeconds is 1"),
        (json!({"ttlSeconds": 1}), &[], "ttlSeconds is 1"),
        (json!({"timeLimit": 1}), &[], "timeLimit is 1"),
        (json!({"preamble": "command-not-here"}), &[], "preamble runs command-not-here"),
        (json!({"preamble": ["true", "false"]}), &[], "preamble ends with `false`"),
        (json!({"readyCheck": "command-not-here"}), &[], "readyCheck begins with command-not-here"),
        (json!({}), &[("CBX_SSHD", "/nonexistent/sshd")], "CBX_SSHD is /nonexistent/sshd"),
        (json!({"spares": 1, "timeLimit": 10, "preamble": "echo $CBX_SLUG"}), &[], "spares: none is ever made"),
        (json!({"spares": 1, "timeLimit": 100}), &[], "130 minutes together, batch gives 120 at most"),
    ];
    for (config, env, text) in setups {
        let doctor = examined(&site, &config, env);
        let message = doctor.ok()["message"].as_str().expect("a message").to_owned();
        assert!(message.contains(text), "{config}: {message}");
    }
}

/// A proxy command of the site's own need not log in to loginHost as we would.
#[test]
fn a_way_of_the_sites_own_is_not_red() {
    let site = site();
    let proxy = "bash -c \"exec 3<>/dev/tcp/{host}/{port}; cat <&3 & cat >&3\" {loginHost}";
    let config = json!({"proxyCommand": proxy, "loginHost": "nosuchhost.invalid"});
    let lease = site.lease("own-way");
    site.acquired(&lease, config.clone());
    let doctor = examined(&site, &config, &[]);
    assert!(doctor.ok()["message"].as_str().expect("a message").contains("proxy host"), "{}", doctor.value);
    site.release_cleanly(&lease);
}

/// scontrol that hangs beside a controller that answers squeue.
#[test]
fn a_ping_that_hangs_beside_a_live_controller_is_not_red() {
    let site = site();
    site.shell("fake-slurm set scontrol hang 12").ok();
    let doctor = examined(&site, &json!({}), &[]);
    assert!(doctor.ok()["message"].as_str().expect("a message").contains("squeue is answered"), "{}", doctor.value);
    site.shell("fake-slurm clear scontrol").ok();
}

/// A green result serves again for a while, for the same configuration; a red one never.
#[test]
fn an_earlier_green_result_may_be_enough() {
    let site = site();
    let work = format!("{}/work", site.root);
    let file = site.write("green.json", &json!({"runnerWorkRoot": work}).to_string());
    let other = site.write("other.json", &json!({"runnerWorkRoot": work, "cpus": 2}).to_string());
    let doctor = |words: &[&str]| {
        let output = site.cli(&[words, &["--json", "doctor", "--max-age", "24h"]].concat());
        let checks: Value = serde_json::from_str(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"));
        (output.code, checks[0]["checkedAt"].is_string())
    };
    assert_eq!(doctor(&["--config", &file]), (0, false), "nothing is known yet");
    site.shell("fake-slurm set all down").ok();
    assert_eq!(doctor(&["--config", &file]), (0, true));
    let text = site.cli(&["--config", &file, "doctor", "--max-age", "24h"]);
    assert!(text.ok().starts_with("This is an earlier result, of 20"), "{}", text.stdout);
    assert_eq!(site.cli(&["--config", &file, "doctor"]).code, 17, "without --max-age it looks anew");
    assert_eq!(doctor(&["--config", &other]), (17, false), "of another configuration nothing is known");
    assert_eq!(doctor(&["--config", &other]), (17, false), "a red result is not kept");
    let live = site.cli(&["--config", &file, "doctor", "--live", "--max-age", "24h"]);
    assert_eq!(live.code, 17, "no lease was made then");
    assert_eq!(doctor(&["--config", &file]), (0, true), "what was green then is still told");
    assert_eq!(site.cli(&["--config", &file, "doctor", "--max-age", "0"]).code, 17);
    site.shell("fake-slurm clear all").ok();
    assert_eq!(doctor(&["--config", &other]), (0, false));
    assert_eq!(doctor(&["--config", &other]), (0, true));
    assert_eq!(site.cli(&["doctor", "--max-age", "soon"]).code, 2);
}
